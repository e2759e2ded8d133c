"""How far a long piece of work has come: a bar on a terminal, lines in a log.

A bar redraws its line several times a second. In a log file that is one endless line, so there a
line of its own comes every SECONDS_BETWEEN_LINES.
"""

import sys
import time
from collections.abc import Iterable, Iterator

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
):
    """Makes a tqdm bar, or `Lines` where stderr is not a terminal; both are used in the same way.

    Args:
      iterable: what to go through; None to call `update` by hand.
      total: where the work ends, in units.
      desc: of the work, such as "evaluate".
      unit: what is counted, in the singular.
      leave: keep the bar at the end. In a log: report the first update at once, and the end.
      initial: where the work begins.
      disable: show nothing.
    """
    settings = dict(
        total=total, desc=desc, unit=unit, leave=leave, initial=initial, disable=disable
    )
    if sys.stderr is not None and sys.stderr.isatty():
        return tqdm(iterable, smoothing=0.1, **settings)
    return Lines(iterable, **settings)


class Lines:
    """Reports progress on stderr in whole lines, with the part of tqdm's interface used here."""

    def __init__(self, iterable=None, *, total, desc, unit, leave, initial, disable):
        self._iterable, self._total, self._unit = iterable, total, unit
        self._desc, self._leave, self._disable = desc, leave, disable
        self._note = ""
        self.n = self._printed = initial
        self._last_line = time.monotonic()
        self._first = None  # (time, n) of the first update, which often includes a compilation

    def set_postfix_str(self, note: str, refresh: bool = True):
        """Sets what the next lines say of the work; refresh is ignored."""
        self._note = note

    def update(self, count: int = 1):
        """Notes that `count` more units are done."""
        self.n += count
        now = time.monotonic()
        is_first = self._first is None
        if is_first:
            self._first = now, self.n
        if now - self._last_line >= SECONDS_BETWEEN_LINES or (is_first and self._leave):
            self._print(now)

    def _print(self, now: float):
        self._last_line, self._printed = now, self.n
        if self._disable:
            return
        parts = [f"{self._desc}: {self._unit} {self.n} of {self._total}", self._note]
        if self._first and self._first[1] < self.n < self._total:
            began, done = self._first
            left = (now - began) / (self.n - done) * (self._total - self.n)
            parts.append(f"{tqdm.format_interval(left)} left")
        print(", ".join(filter(None, parts)), file=sys.stderr, flush=True)

    def __iter__(self) -> Iterator:
        for item in self._iterable:
            yield item
            self.update()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._leave and self._printed != self.n:
            self._print(time.monotonic())
