"""What mode=predict reads and writes, by the paths that it is given."""

import pytest

from tf_simclr.errors import ConfigError
from tf_simclr.modes import pictures, tables


def test_pictures_are_named_by_a_file_a_folder_or_a_pattern(tmp_path):
    folder = tmp_path / "holiday [2019]"
    folder.mkdir()
    files = [str(folder / name) for name in ("a [1].png", "a [2].png")]
    for file in files:
        open(file, "w").close()
    assert pictures.find(files[0]) == files[:1]  # as a pattern it would match "a 1.png"
    assert pictures.find(str(folder)) == files
    assert pictures.find(f"{tmp_path}/*/a*.png") == files


def test_an_output_that_cannot_be_is_refused_before_anything_is_computed(tmp_path):
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(ConfigError, match="output .*x.csv' is a directory: give a file name"):
        tables.check(str(tmp_path / "x.csv"))
    with pytest.raises(ConfigError, match="output .*cannot be written .*: use another"):
        tables.check(str(tmp_path / (251 * "x" + ".csv")))
    tables.check(str(tmp_path / "y.csv"))
