"""The error for a wrong setting, and helpers that format its text."""

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """Says in one line which setting is wrong, what its value is, and how to fix it."""


def one_line(error: object) -> str:
    """Returns an error's text in one line of at most 300 characters, or the name of its type."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def listed(names: Iterable[str], *, limit: int = 3, separator: str = ", ") -> str:
    """Joins the first names, and says how many more there are: "a, b, c and 7 more"."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return separator.join(names[:limit]) + more


def did_you_mean(name: str, names: Iterable[str], prefix: str = "") -> str:
    """Returns '; did you mean --learning_rate?' with the nearest names, or ''."""
    by_lower_case = {n.lower(): n for n in names}
    matches = difflib.get_close_matches(name.lower(), by_lower_case)
    near = [prefix + by_lower_case[match] for match in matches]
    return f"; did you mean {' or '.join(near)}?" if near else ""
