"""Reads what a job of `tf-simclr embed` has written."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet


def read_parquet(output: Path) -> list[tuple[str, np.ndarray]]:
    """(name, embedding) of every row of every file."""
    rows = []
    for path in sorted((output / "embeddings").iterdir()):
        table = pyarrow.parquet.read_table(path)
        rows += zip(table["name"].to_pylist(), table["embedding"].to_pylist(), strict=True)
    return [(name, np.array(values, np.float32)) for name, values in rows]


def read_left_out(output: Path) -> list[tuple[str, str]]:
    """(name, reason) of every line of every file."""
    lines = []
    for path in sorted((output / "left_out").glob("*")):
        lines += map(json.loads, path.read_text().splitlines())
    return [(line["name"], line["reason"]) for line in lines]


def check_exactly_once(output: Path, good, bad):
    assert sorted(name for name, _ in read_parquet(output)) == sorted(good)
    assert sorted(read_left_out(output)) == sorted(bad.items())
