"""Timing functions side by side."""

import statistics
import time
from collections.abc import Callable, Sequence


def medians(functions: Sequence[Callable[[], object]], *, repetitions: int) -> list[float]:
    """Median milliseconds a call of each function.

    The functions take turns, so that whatever else the machine does falls on all of them alike.

    Args:
      functions: each must return only when its results are there.
      repetitions: timed calls of each; two calls before them are not timed, the first of which
        traces and compiles.
    """
    seconds = [[] for _ in functions]
    for repetition in range(-2, repetitions):
        for function, taken in zip(functions, seconds, strict=True):
            began = time.perf_counter()
            function()
            if repetition >= 0:
                taken.append(time.perf_counter() - began)
    return [1e3 * statistics.median(taken) for taken in seconds]
