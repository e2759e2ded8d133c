"""The run's directory: one run at a time, files that are whole or absent."""

import json
import os

import pytest

from tf_simclr.config import ConfigError
from tf_simclr.training import model_dir


def test_a_second_run_is_refused_and_the_first_goes_on(tmp_path):
    with model_dir.lock(str(tmp_path)):
        with pytest.raises(ConfigError, match="model_dir .* is in use by another run"):
            with model_dir.lock(str(tmp_path)):
                pass
        (tmp_path / "written").touch()
    with model_dir.lock(str(tmp_path)):
        pass


def test_a_directory_made_for_nothing_is_removed(tmp_path):
    new = tmp_path / "a" / "b"
    with pytest.raises(ConfigError, match="no"), model_dir.lock(str(new)):
        assert new.is_dir()
        raise ConfigError("no")
    assert not new.exists()
    with model_dir.lock(str(new)):
        (new / "ckpt-1.index").touch()
    assert (new / "ckpt-1.index").exists()


def test_a_file_in_place_of_the_directory_is_an_error_that_names_the_flag(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="model_dir .*file.* cannot be written to"):
        with model_dir.lock(str(tmp_path / "file")):
            pass


def test_write_text_replaces_and_leaves_no_other_file(tmp_path):
    path = tmp_path / "config.gin"
    for content in ("first", "second"):
        model_dir.write_text(str(path), content)
        assert path.read_text() == content
    assert os.listdir(tmp_path) == ["config.gin"]


def test_results_go_into_result_json_and_the_steps_own_file(tmp_path):
    model_dir.write_results(str(tmp_path), {"eval/x": 0.5}, step=7, name=None)
    model_dir.write_results(str(tmp_path), {"eval/x": 0.25}, step=8, name="other")
    expected = {"eval/x": 0.5, "global_step": 7}
    for name in ("result.json", "result_7.json"):
        assert json.loads((tmp_path / name).read_text()) == expected
    assert json.loads((tmp_path / "result_other_8.json").read_text())["eval/x"] == 0.25
