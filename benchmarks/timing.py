"""Times functions side by side."""

import functools
import statistics
import time
from collections.abc import Callable, Sequence


def in_turns(
    functions: Sequence[Callable[[], object]], *, repetitions: int, untimed: int = 0
) -> list[list]:
    """Calls each function several times and returns the results of each, in order of the calls.

    The functions take turns, because other load on the machine then affects all of them equally.

    Args:
      functions: each must return only when its results are ready.
      repetitions: number of calls of each.
      untimed: number of earlier calls of each, whose results are dropped.
    """
    results: list[list] = [[] for _ in functions]
    for repetition in range(-untimed, repetitions):
        for function, kept in zip(functions, results, strict=True):
            result = function()
            if repetition >= 0:
                kept.append(result)
    return results


def medians(functions: Sequence[Callable[[], object]], *, repetitions: int) -> list[float]:
    """Returns the median milliseconds per call of each function; the functions take turns.

    Two earlier calls do not count, because the first one traces and compiles.
    """
    timed = [functools.partial(_seconds, function) for function in functions]
    results = in_turns(timed, repetitions=repetitions, untimed=2)
    return [1e3 * statistics.median(seconds) for seconds in results]


def _seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began
