import os

import pytest

from tf_simclr import files
from tf_simclr.errors import ConfigError


@pytest.mark.parametrize(
    "name, reason",
    [
        ("map.jpg", "must end in .png, .svg, got"),
        ("none/map.png", "not a writable folder"),
        ("file.png/map.png", "not a writable folder"),
        ("folder.png", "is a directory"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused(tmp_path, name, reason):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file.png").touch()
    with pytest.raises(ConfigError, match=reason):
        files.check_output(str(tmp_path / name), (".png", ".svg"))


def test_outputs_that_can_be_written_are_accepted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("map.png", "MAP.SVG", f"{tmp_path}/map.svg"):
        files.check_output(path, (".png", ".svg"))
    files.check_output("table.any")
    files.check_folder_of("folder/")
    assert os.listdir(tmp_path) == []
