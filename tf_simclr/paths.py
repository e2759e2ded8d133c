"""What a path may look like before anything is looked up: `~`, and characters of patterns."""

import os

# TensorFlow matches file names as patterns when it restores a checkpoint or deletes an old one. On
# Windows a backslash separates folders.
PATTERN = "*?[" + ("" if os.sep == "\\" else "\\")


def expand_home(path: str) -> str:
    """Replaces a leading `~` or `~NAME` by a home directory.

    A shell does this for `--flag ~/x` and leaves `--flag=~/x` alone. A path whose home directory is
    not known is returned as it is.
    """
    return os.path.expanduser(path)


def lacks_home(path: str) -> bool:
    """Returns whether an expanded path still begins with somebody's home directory."""
    return path == "~" or (path.startswith("~") and "/" in path)


def is_pattern(path: str) -> bool:
    """Returns whether TensorFlow could take a path for a pattern that matches other files."""
    return any(character in path for character in PATTERN)


def is_utf8(path: str) -> bool:
    """Returns whether a path is text, as TensorFlow wants it, and not other bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
