"""Timing functions side by side."""

import functools
import statistics
import time
from collections.abc import Callable, Sequence


def in_turns(
    functions: Sequence[Callable[[], object]], *, repetitions: int, untimed: int = 0
) -> list[list]:
    """What each function returns, call by call.

    The functions take turns, so that whatever else the machine does falls on all of them alike.

    Args:
      functions: each must return only when its results are there.
      repetitions: calls of each.
      untimed: calls of each before them, whose results are dropped.
    """
    results = [[] for _ in functions]
    for repetition in range(-untimed, repetitions):
        for function, kept in zip(functions, results, strict=True):
            result = function()
            if repetition >= 0:
                kept.append(result)
    return results


def medians(functions: Sequence[Callable[[], object]], *, repetitions: int) -> list[float]:
    """Median milliseconds a call of each function; they take turns as in `in_turns`.

    Two calls before the timed ones do not count, the first of which traces and compiles.
    """
    timed = [functools.partial(_seconds, function) for function in functions]
    taken = in_turns(timed, repetitions=repetitions, untimed=2)
    return [1e3 * statistics.median(seconds) for seconds in taken]


def _seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began
