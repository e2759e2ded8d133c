"""Prevents two runs from training in one directory at the same time."""

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from typing import IO

from tf_simclr.errors import ConfigError, one_line

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
HELD_BY_ANOTHER = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # error numbers of flock
# `is_held` holds a lock for some microseconds, and must not keep a run from starting.
_PAUSES = (0.05, 0.1, 0.2)  # seconds


@contextlib.contextmanager
def lock(model_dir: str) -> Iterator[None]:
    """Locks model_dir for this run. The operating system releases the lock when the process ends.

    Creates the directory if it does not exist, and removes it again if nothing is written to it.
    Remote directories (gs://...) are not locked, because they cannot be. If the file system or the
    operating system has no locks, prints a warning and lets the run continue.

    Raises:
      ConfigError: another run trains in model_dir, or the directory cannot be written to.
    """
    if "://" in model_dir:
        yield
        return
    is_new = not os.path.isdir(model_dir)
    path = os.path.join(model_dir, LOCK)
    try:
        os.makedirs(model_dir, exist_ok=True)
        file = open(path, "a")
    except OSError as error:
        raise ConfigError(
            f"model_dir {model_dir!r} cannot be written to ({one_line(error)}): use another"
        ) from error
    with file:
        if problem := _try_lock(file, model_dir):
            print(
                f"model_dir {model_dir!r} cannot be locked ({problem}): make sure that no other "
                "run trains there",
                file=sys.stderr,
            )
        try:
            yield
        finally:
            if is_new and os.listdir(model_dir) == [LOCK]:
                os.remove(path)
                os.rmdir(model_dir)


def _try_lock(file: IO, model_dir: str) -> str | None:
    """Locks a file in model_dir. Returns None, or the reason why files cannot be locked here.

    Raises:
      ConfigError: another process holds the lock.
    """
    if fcntl is None:
        return "this operating system has no flock"
    for pause in (*_PAUSES, None):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in HELD_BY_ANOTHER:
                return one_line(error)
            if pause is None:
                raise ConfigError(
                    f"model_dir {model_dir!r} is in use by another run: wait for it, or use another"
                ) from None
            time.sleep(pause)
        else:
            break
    return None


def is_held(model_dir: str) -> bool | None:
    """Returns whether a run trains in model_dir; None if that is unknown.

    It is unknown at a URL, and if the file system or the operating system has no locks. A run that
    trains is not disturbed, and a run that starts meanwhile tries again.
    """
    if "://" in model_dir or fcntl is None:
        return None
    path = os.path.join(model_dir, LOCK)
    if not os.path.isfile(path):  # opening a pipe would block
        return False
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # closing the file releases it
    except OSError as error:
        return True if error.errno in HELD_BY_ANOTHER and error.filename is None else None
    return False
