"""The lock on a run's directory: one run at a time."""

import errno
import importlib.util
import sys
import types

import pytest

from tf_simclr.checkpoints import run_lock
from tf_simclr.errors import ConfigError


def test_a_second_run_is_refused_and_the_first_goes_on(tmp_path):
    with run_lock.lock(str(tmp_path)):
        with pytest.raises(ConfigError, match="model_dir .* is in use by another run"):
            with run_lock.lock(str(tmp_path)):
                pass
        (tmp_path / "written").touch()
    with run_lock.lock(str(tmp_path)):
        pass


@pytest.mark.parametrize("code", ["ENOSYS", "ENOLCK", "EBADF", "EOPNOTSUPP", "EINVAL"])
def test_a_file_system_without_locks_trains_with_a_warning(tmp_path, monkeypatch, capsys, code):
    def flock(file, operation):
        raise OSError(getattr(errno, code), "not here")

    monkeypatch.setattr(run_lock.fcntl, "flock", flock)
    with run_lock.lock(str(tmp_path / "new")):
        (tmp_path / "new" / "written").touch()
    (line,) = capsys.readouterr().err.splitlines()
    assert "model_dir" in line and "cannot be locked" in line and "not here" in line


@pytest.mark.parametrize("code", ["EWOULDBLOCK", "EACCES"])
def test_every_error_of_flock_that_means_another_run_is_refused(tmp_path, monkeypatch, code):
    held = types.SimpleNamespace(LOCK_EX=1, LOCK_NB=2)
    held.flock = lambda file, operation: (_ for _ in ()).throw(OSError(getattr(errno, code), ""))
    monkeypatch.setattr(run_lock, "fcntl", held)
    with pytest.raises(ConfigError, match="in use by another run"):
        with run_lock.lock(str(tmp_path)):
            pass


def test_an_operating_system_without_fcntl_imports_and_trains(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fcntl", None)  # an import of it fails
    spec = importlib.util.spec_from_file_location("run_lock_elsewhere", run_lock.__file__)
    elsewhere = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(elsewhere)
    with elsewhere.lock(str(tmp_path)):
        pass
    assert "this operating system has no flock" in capsys.readouterr().err


def test_a_directory_made_for_nothing_is_removed(tmp_path):
    new = tmp_path / "a" / "b"
    with pytest.raises(ConfigError, match="no"), run_lock.lock(str(new)):
        assert new.is_dir()
        raise ConfigError("no")
    assert not new.exists()
    with run_lock.lock(str(new)):
        (new / "ckpt-1.index").touch()
    assert (new / "ckpt-1.index").exists()


def test_a_file_in_place_of_the_directory_is_an_error_that_names_the_flag(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="model_dir .*file.* cannot be written to"):
        with run_lock.lock(str(tmp_path / "file")):
            pass


def test_whether_a_run_trains_is_found_out_without_disturbing_it(tmp_path):
    assert run_lock.is_held(str(tmp_path)) is False  # no run has been here
    with run_lock.lock(str(tmp_path)):
        assert run_lock.is_held(str(tmp_path)) is True
        with pytest.raises(ConfigError, match="in use"):  # the first run still has the lock
            with run_lock.lock(str(tmp_path)):
                pass
        (tmp_path / "written").touch()
    assert run_lock.is_held(str(tmp_path)) is False
    with run_lock.lock(str(tmp_path)):
        pass


def test_a_run_that_starts_while_somebody_looks_is_not_refused(tmp_path, monkeypatch):
    (tmp_path / run_lock.LOCK).touch()
    with open(tmp_path / run_lock.LOCK, "rb") as looking:
        run_lock.fcntl.flock(looking, run_lock.fcntl.LOCK_SH)
        monkeypatch.setattr(run_lock.time, "sleep", lambda seconds: looking.close())
        with run_lock.lock(str(tmp_path)):
            assert run_lock.is_held(str(tmp_path)) is True


def test_where_locks_cannot_tell_nothing_is_claimed(tmp_path, monkeypatch):
    assert run_lock.is_held("gs://bucket/run") is None
    (tmp_path / run_lock.LOCK).touch()

    def flock(file, operation):
        raise OSError(errno.ENOLCK, "not here")

    monkeypatch.setattr(run_lock.fcntl, "flock", flock)
    assert run_lock.is_held(str(tmp_path)) is None
    monkeypatch.setattr(run_lock, "fcntl", None)
    assert run_lock.is_held(str(tmp_path)) is None
