"""The error that every wrong setting becomes, and the words it is made of."""

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """A setting is wrong. One line that names the setting, its value and the way out."""


def one_line(error) -> str:
    """An error's text in one line, at most 300 characters; its type's name if it has no text."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def did_you_mean(name: str, names: Iterable[str], prefix: str = "") -> str:
    """'; did you mean --learning_rate?' for the nearest names, or ''."""
    names = {n.lower(): n for n in names}
    near = [prefix + names[n] for n in difflib.get_close_matches(name.lower(), names)]
    return f"; did you mean {' or '.join(near)}?" if near else ""
