"""Tables of predictions: names of columns."""

import csv

import numpy as np
import pytest

from tf_simclr.modes import tables

NAMES = ["cat", "file", "probability", "class_file"]
COLUMNS = [
    "file",
    "prediction",
    "probability",
    "cat",
    "class_class_file",
    "class_probability",
    "class_file",
]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_class_named_like_another_column_gets_a_name_of_its_own(tmp_path, suffix):
    path = str(tmp_path / f"out{suffix}")
    if suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
    values = np.array([[0.0, 0.5, 0.25, 0.25]], np.float32)
    with tables.open_table(path, NAMES, 4) as table:
        table.write(["a.png"], values)
    if suffix == ".parquet":
        result = parquet.read_table(path)
        names, row = result.column_names, [column[0].as_py() for column in result.columns]
    else:
        with open(path, newline="") as file:
            names, row = csv.reader(file)
    assert names == COLUMNS
    assert row[:2] == ["a.png", "file"] and [float(v) for v in row[2:]] == [0.5, *values[0]]


def test_a_class_name_that_is_not_utf_8_becomes_a_column_of_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = str(tmp_path / "out.parquet")
    with tables.open_table(path, ["cat", "\udcff"], 2) as table:
        table.write(["a.png"], np.array([[0.25, 0.75]], np.float32))
    assert parquet.read_table(path).column_names[3:] == ["cat", r"\xff"]
