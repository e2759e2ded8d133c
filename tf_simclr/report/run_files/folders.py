"""Lists folders and finds runs, within bounds: a folder may hold a data set, or link to itself."""

import itertools
import os
import re
from collections.abc import Callable, Sequence

from tf_simclr import files
from tf_simclr.errors import ConfigError, one_line

MAX_NAMES = 100_000  # of one folder
MAX_NAMES_SEARCHED = 1_000_000  # of all folders
MAX_FOUND = 2_000
MAX_DEPTH = 30
# Folders of tools hold thousands of files. A model_dir has folders of its own.
_OF_TOOLS = re.compile(r"plugins|\..*|__pycache__").fullmatch
_OF_A_RUN = re.compile(
    r"best|saved_model|saved_model_best|features|projector|eval|eval_.*|plugins|\..*|__pycache__"
).fullmatch


def names(directory: str) -> set[str]:
    """Returns the names in a directory, at most MAX_NAMES of them.

    Raises:
      ConfigError: there is no such directory, or it cannot be listed.
    """
    try:
        if not files.is_url(directory):
            with os.scandir(directory) as entries:
                return {entry.name for entry in itertools.islice(entries, MAX_NAMES)}
        import tensorflow as tf

        found = {name.rstrip("/") for name in tf.io.gfile.listdir(directory)[:MAX_NAMES]}
    except FileNotFoundError:
        raise ConfigError(f"there is no directory {directory!r}: check the path") from None
    except Exception as error:  # OSError, or an error of TensorFlow for a URL
        raise ConfigError(
            f"{directory!r} cannot be listed ({one_line(error)}): give a directory that can be read"
        ) from None
    return found


def find(root: str, is_wanted: Callable[[str, set[str]], bool]) -> tuple[list[str], str]:
    """Finds directories below a folder, the folder among them. Links are followed, not in circles.

    Folders in which runs keep files of their own, such as best/, are left out.

    Args:
      root: the folder.
      is_wanted: returns whether to list a directory, given its path and the names of its files.

    Returns:
      The paths, sorted so that run2 comes before run10, and a sentence that says which bound ended
      the search; "" if it was complete.

    Raises:
      ConfigError: the folder cannot be listed.
    """
    found, seen, num_names = [], set(), 0
    waiting = [(root, 0)]
    while waiting:
        directory, depth = waiting.pop()
        try:
            in_it, identity = names(directory), _identity(directory)
        except (ConfigError, OSError):
            if directory == root:
                raise
            continue  # it has gone, or belongs to somebody else
        if identity in seen:
            continue
        seen.add(identity)
        num_names += len(in_it)
        is_found = is_wanted(directory, in_it)
        if is_found:
            found.append(directory)
        if len(found) > MAX_FOUND or num_names > MAX_NAMES_SEARCHED:
            what = f"{MAX_FOUND} runs" if len(found) > MAX_FOUND else f"{MAX_NAMES_SEARCHED} files"
            return _sorted(found[:MAX_FOUND], root), f"only the first {what} below {root!r}"
        if depth < MAX_DEPTH:
            skips = _OF_A_RUN if is_found else _OF_TOOLS
            inside = [os.path.join(directory, name) for name in in_it if not skips(name)]
            waiting += [(path, depth + 1) for path in sorted(inside) if _is_directory(path)]
    return _sorted(found, root), ""


def _identity(directory: str) -> object:
    """Returns what two paths to the same directory have in common."""
    if files.is_url(directory):
        return directory
    status = os.stat(directory)
    return status.st_dev, status.st_ino


def _is_directory(path: str) -> bool:
    if not files.is_url(path):
        return os.path.isdir(path)
    import tensorflow as tf

    return tf.io.gfile.isdir(path)


def _sorted(paths: list[str], root: str) -> list[str]:
    def key(path: str) -> list[tuple[int, int, str]]:
        parts = re.findall(r"[0-9]{1,18}|[^0-9]+|[0-9]", os.path.relpath(path, root))
        return [(0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts]

    return sorted(paths, key=key)


def short_names(directories: Sequence[str]) -> list[str]:
    """Returns a short name for each of several directories, unique among them.

    It is the last part of the path, with as many parts before it as tell the directories apart:
    "runs/a/first" and "runs/b/first" are "a/first" and "b/first". A directory that is given twice
    gets a number.
    """
    parts = [
        (path if files.is_url(path) else os.path.abspath(path)).rstrip("/").split("/")
        for path in directories
    ]
    for count in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(part[-count:]) or "/" for part in parts]
        if len(set(names)) == len(names):
            return names
    names, result = ["/".join(part) or "/" for part in parts], []
    for i, name in enumerate(names):
        before = names[:i].count(name)
        result.append(f"{name} ({before + 1})" if before else name)
    return result
