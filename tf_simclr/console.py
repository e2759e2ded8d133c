"""Shows the progress of long work: a bar on a terminal, lines in a log.

A bar redraws its line several times per second, which would be one endless line in a log file. A
log gets a separate line every SECONDS_BETWEEN_LINES instead.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0


def progress(
    iterable: Iterable | None = None,
    *,
    total: int,
    desc: str,
    unit: str,
    leave: bool = False,
    initial: int = 0,
    disable: bool = False,
) -> Any:
    """Makes a tqdm bar, or `Lines` if stderr is not a terminal. Both are used in the same way.

    Args:
      iterable: items to iterate over; None to call `update` by hand.
      total: number of units at the end of the work.
      desc: name of the work, such as "evaluate".
      unit: name of one unit, such as "step".
      leave: keep the bar at the end. In a log: also report the first update and the end.
      initial: number of units that are already done.
      disable: show nothing.

    Returns:
      A tqdm bar or `Lines`.
    """
    settings: dict[str, Any] = dict(
        total=total, desc=desc, unit=unit, leave=leave, initial=initial, disable=disable
    )
    if sys.stderr is not None and sys.stderr.isatty():
        return tqdm(iterable, smoothing=0.1, **settings)
    return Lines(iterable, **settings)


class Lines:
    """Reports progress on stderr in full lines, with the part of tqdm's interface used here."""

    def __init__(
        self,
        iterable: Iterable | None,
        *,
        total: int,
        desc: str,
        unit: str,
        leave: bool,
        initial: int,
        disable: bool,
    ):
        self._iterable, self._total, self._unit = iterable, total, unit
        self._desc, self._leave, self._disable = desc, leave, disable
        self._note = ""
        self.n = self._printed = initial
        self._last_line = time.monotonic()
        # (time, n) of the first update, which often includes a compilation.
        self._first: tuple[float, int] | None = None

    def set_postfix_str(self, note: str, refresh: bool = True) -> None:
        """Sets the note at the end of the next lines; refresh is ignored."""
        self._note = note

    def update(self, count: int = 1) -> None:
        """Records that `count` more units are done."""
        self.n += count
        now = time.monotonic()
        is_first = self._first is None
        if is_first:
            self._first = now, self.n
        if now - self._last_line >= SECONDS_BETWEEN_LINES or (is_first and self._leave):
            self._print(now)

    def _print(self, now: float) -> None:
        self._last_line, self._printed = now, self.n
        if self._disable:
            return
        parts = [f"{self._desc}: {self._unit} {self.n} of {self._total}", self._note]
        if self._first and self._first[1] < self.n < self._total:
            first_time, first_n = self._first
            left = (now - first_time) / (self.n - first_n) * (self._total - self.n)
            parts.append(f"{tqdm.format_interval(left)} left")
        print(", ".join(filter(None, parts)), file=sys.stderr, flush=True)

    def __iter__(self) -> Iterator:
        assert self._iterable is not None
        for item in self._iterable:
            yield item
            self.update()

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        if self._leave and self._printed != self.n:
            self._print(time.monotonic())
