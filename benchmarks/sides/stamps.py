"""Writes down when a program reached its moments, one JSON object per line.

All processes of a machine share the monotonic clock, so the process that started a side can
compare the times with its own.
"""

import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

# What the programs write. "call" is one call of the device, which takes one or more steps.
IMPORT, CALL, CHECKPOINT, EVALUATION, EXPORT = (
    "import",
    "call",
    "checkpoint",
    "evaluation",
    "export",
)


class Stamps:
    """Appends the moments of this process to a file."""

    def __init__(self, path: str):
        """Prepares the file.

        Args:
          path: file to append to.
        """
        self._path = path

    def write(self, what: str, began: float, **values: float | None) -> None:
        """Writes a moment that ends now.

        Args:
          what: one of the names above.
          began: when it began, in seconds of time.monotonic().
          **values: more values of the moment.
        """
        moment = {"what": what, "began": began, "ended": time.monotonic()} | values
        with open(self._path, "a") as file:
            file.write(json.dumps(moment) + "\n")

    @contextlib.contextmanager
    def span(self, what: str, **values: float) -> Iterator[None]:
        """Writes the time that a block of code takes."""
        began = time.monotonic()
        yield
        self.write(what, began, **values)

    def wrap(self, owner: Any, name: str, what: str) -> None:
        """Replaces a function or method by one that also writes the time that it takes.

        Args:
          owner: module or class.
          name: name of the function in it.
          what: name of the moment.
        """
        function: Callable = getattr(owner, name)

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.span(what):
                return function(*args, **kwargs)

        setattr(owner, name, timed)
