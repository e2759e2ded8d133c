"""Checks and expands paths: a leading `~`, and characters that TensorFlow reads as a pattern."""

import os

# TensorFlow reads file names as patterns when it restores a checkpoint or deletes an old one. On
# Windows, a backslash separates directories.
PATTERN = "*?[" + ("" if os.sep == "\\" else "\\")


def expand_home(path: str) -> str:
    """Replaces a leading `~` or `~NAME` by a home directory.

    A shell expands `--flag ~/x` but not `--flag=~/x`. An unknown home directory leaves the path
    unchanged.
    """
    return os.path.expanduser(path)


def lacks_home(path: str) -> bool:
    """Returns whether an expanded path still begins with `~`, because its home is unknown."""
    return path == "~" or (path.startswith("~") and "/" in path)


def is_pattern(path: str) -> bool:
    """Returns whether TensorFlow could read a path as a pattern that matches other files."""
    return any(character in path for character in PATTERN)


def is_utf8(path: str) -> bool:
    """Returns whether a path can be encoded in UTF-8, which TensorFlow requires."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
