"""The run's directory: one run at a time, files that are whole or absent."""

import errno
import importlib.util
import json
import os
import sys
import types

import pytest

from tf_simclr.checkpoints import run_dir
from tf_simclr.errors import ConfigError


def test_a_second_run_is_refused_and_the_first_goes_on(tmp_path):
    with run_dir.lock(str(tmp_path)):
        with pytest.raises(ConfigError, match="model_dir .* is in use by another run"):
            with run_dir.lock(str(tmp_path)):
                pass
        (tmp_path / "written").touch()
    with run_dir.lock(str(tmp_path)):
        pass


@pytest.mark.parametrize("code", ["ENOSYS", "ENOLCK", "EBADF", "EOPNOTSUPP", "EINVAL"])
def test_a_file_system_without_locks_trains_with_a_warning(tmp_path, monkeypatch, capsys, code):
    def flock(file, operation):
        raise OSError(getattr(errno, code), "not here")

    monkeypatch.setattr(run_dir.fcntl, "flock", flock)
    with run_dir.lock(str(tmp_path / "new")):
        (tmp_path / "new" / "written").touch()
    (line,) = capsys.readouterr().err.splitlines()
    assert "model_dir" in line and "cannot be locked" in line and "not here" in line


@pytest.mark.parametrize("code", ["EWOULDBLOCK", "EACCES"])
def test_all_that_flock_says_of_another_run_is_refused(tmp_path, monkeypatch, code):
    held = types.SimpleNamespace(LOCK_EX=1, LOCK_NB=2)
    held.flock = lambda file, operation: (_ for _ in ()).throw(OSError(getattr(errno, code), ""))
    monkeypatch.setattr(run_dir, "fcntl", held)
    with pytest.raises(ConfigError, match="in use by another run"):
        with run_dir.lock(str(tmp_path)):
            pass


def test_an_operating_system_without_fcntl_imports_and_trains(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fcntl", None)  # an import of it fails
    spec = importlib.util.spec_from_file_location("run_dir_elsewhere", run_dir.__file__)
    elsewhere = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(elsewhere)
    with elsewhere.lock(str(tmp_path)):
        pass
    assert "this operating system has no flock" in capsys.readouterr().err


def test_a_directory_made_for_nothing_is_removed(tmp_path):
    new = tmp_path / "a" / "b"
    with pytest.raises(ConfigError, match="no"), run_dir.lock(str(new)):
        assert new.is_dir()
        raise ConfigError("no")
    assert not new.exists()
    with run_dir.lock(str(new)):
        (new / "ckpt-1.index").touch()
    assert (new / "ckpt-1.index").exists()


def test_a_file_in_place_of_the_directory_is_an_error_that_names_the_flag(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="model_dir .*file.* cannot be written to"):
        with run_dir.lock(str(tmp_path / "file")):
            pass


def test_write_text_replaces_and_leaves_no_other_file(tmp_path):
    path = tmp_path / "config.gin"
    for content in ("first", "second"):
        run_dir.write_text(str(path), content)
        assert path.read_text() == content
    assert os.listdir(tmp_path) == ["config.gin"]


def test_results_go_into_result_json_and_the_steps_own_file(tmp_path):
    run_dir.write_results(str(tmp_path), {"eval/x": 0.5}, step=7, name=None)
    run_dir.write_results(str(tmp_path), {"eval/x": 0.25}, step=8, name="other")
    expected = {"eval/x": 0.5, "global_step": 7}
    for name in ("result.json", "result_7.json"):
        assert json.loads((tmp_path / name).read_text()) == expected
    assert json.loads((tmp_path / "result_other_8.json").read_text())["eval/x"] == 0.25
