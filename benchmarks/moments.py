"""Splits the time of a run into parts, from the moments that its side wrote."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.sides.stamps import CALL, CHECKPOINT, EVALUATION, EXPORT, IMPORT

BUILD, TRACE, FIRST = "build: data, model, optimizer", "trace the step", "first step"
STEADY, LATER, CHECKPOINTS = "steady step", "steps after the first", "checkpoints"
REST, OVERHEAD, WHOLE = "rest: summaries, monitor, exit", "all but steps", "whole command"
# The seconds of these parts add up to those of the whole command.
PARTS = (IMPORT, BUILD, TRACE, FIRST, LATER, CHECKPOINTS, EVALUATION, EXPORT, REST)


def read(path: Path) -> list[dict]:
    """Reads the moments of a run in the order in which they ended."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def parts(
    moments: Sequence[dict], *, started: float, ended: float, window: int
) -> dict[str, float]:
    """Returns the seconds of each part of a run.

    The times do not overlap: an export inside an evaluation counts as export only. If the first
    call takes several steps, the first step is the call without its tracing and without a steady
    step for each further step.

    Args:
      moments: what the side wrote (`read`).
      started: when the process was started, in seconds of time.monotonic().
      ended: when the process ended.
      window: steps between checkpoints. The steady step is the median over all windows but the
        first of the mean time of a step.

    Returns:
      {part: seconds}, for PARTS, STEADY, OVERHEAD and WHOLE. OVERHEAD is everything but the steps
      after the first one.

    Raises:
      ValueError: a moment is missing, or there are fewer than two windows.
    """
    calls = _named(moments, CALL)
    if not _named(moments, IMPORT) or not calls:
        raise ValueError("it wrote no time of its imports, or of a step")
    steady = _steady(calls, window)
    first, imported = calls[0], _named(moments, IMPORT)[0]["ended"]
    traced = first.get("traced") or first["began"]
    seconds = {
        IMPORT: imported - started,
        BUILD: first["began"] - imported,
        TRACE: traced - first["began"],
        FIRST: first["ended"] - traced - (first["steps"] - 1) * steady,
        LATER: _total(calls[1:]) + (first["steps"] - 1) * steady,
        CHECKPOINTS: _total(_named(moments, CHECKPOINT)),
        EXPORT: _total(_named(moments, EXPORT)),
    }
    evaluations = _named(moments, EVALUATION)
    inside = [
        export
        for export in _named(moments, EXPORT)
        if any(e["began"] <= export["began"] <= e["ended"] for e in evaluations)
    ]
    seconds[EVALUATION] = _total(evaluations) - _total(inside)
    whole = ended - started
    seconds[REST] = whole - sum(seconds.values())
    return seconds | {STEADY: steady, OVERHEAD: whole - seconds[LATER], WHOLE: whole}


def _named(moments: Sequence[dict], what: str) -> list[dict]:
    return [moment for moment in moments if moment["what"] == what]


def _total(moments: Sequence[dict]) -> float:
    return sum(moment["ended"] - moment["began"] for moment in moments)


def _steady(calls: Sequence[dict], window: int) -> float:
    """Returns the median over all windows but the first of the mean seconds of a step."""
    windows: dict[int, list[dict]] = {}
    step = 0
    for call in calls:
        step += call["steps"]
        windows.setdefault((step - 1) // window, []).append(call)
    later = [group for index, group in windows.items() if index]
    if not later:
        raise ValueError(f"it took {step} steps, and the first {window} warm up")
    return statistics.median(
        _total(group) / sum(call["steps"] for call in group) for group in later
    )
