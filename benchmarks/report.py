"""Prints the report of a benchmark: the machine, then a Markdown table of measurements."""

import argparse
import dataclasses
import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import keras
import tensorflow as tf

Value = TypeVar("Value")
_FORMATS = {
    "s": "{:.1f} s",
    "ms": "{:.2f} ms",
    "ps": "{:.2f} ps",
    "bytes": "{:,.0f} B",
    "MB": "{:,.0f} MB",
    "images/s": "{:,.0f}/s",
    "%": "{:.1f} %",
    "count": "{:,.0f}",
    "TFLOP/s": "{:,.3f} TFLOP/s",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """Holds one quantity of this code and the same quantity of a baseline.

    Attributes:
      what: name of the quantity.
      setting: the settings of both sides.
      unit: "s", "ms", "ps", "bytes", "MB" (the value is in bytes and shown in millions),
        "images/s", "%", "count" or "TFLOP/s".
      ours: value of this code.
      baseline: value of the baseline; None if there is nothing to compare with.
      origin: "measured" (by a clock), "counted" (in the executed graph) or "computed" (by formula).
      our_runs: the values of single runs, of which `ours` is the median; empty if they are unknown.
      baseline_runs: the same for the baseline; run i of both sides is a pair.
    """

    what: str
    setting: str
    unit: str
    ours: float
    baseline: float | None
    origin: str
    our_runs: tuple[float, ...] = ()
    baseline_runs: tuple[float, ...] = ()

    @property
    def ratio(self) -> float | None:
        """Returns our value divided by the baseline's: below 1 if ours is smaller."""
        return self.ours / self.baseline if self.baseline else None

    def markdown(self) -> str:
        """Returns the line of the table."""

        def show(value: float) -> str:
            if self.unit == "images/s" and value < 100:
                return f"{value:.1f}/s"
            return _FORMATS[self.unit].format(value / 1e6 if self.unit == "MB" else value)

        baseline = "" if self.baseline is None else show(self.baseline)
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        if ratio:
            pairs = zip(self.our_runs, self.baseline_runs, strict=False)
            ratio += _spread([ours / other for ours, other in pairs if other], "{:.2f}".format)
        ours = show(self.ours) + _spread(self.our_runs, show)
        baseline += _spread(self.baseline_runs, show)
        cells = (f"{self.what} ({self.origin})", self.setting, ours, baseline, ratio)
        return "| " + " | ".join(cells) + " |"


def measured(what: str, setting: str, unit: str, values: Sequence[float]) -> Row:
    """Makes a row of measured values: [ours] or [ours, baseline]."""
    ours, baseline = [*values, None][:2]
    assert ours is not None
    return Row(what, setting, unit, ours, baseline, "measured")


def measured_runs(what: str, setting: str, unit: str, sides: Sequence[Sequence[float]]) -> Row:
    """Makes a row of the medians of runs, with their spread.

    Args:
      what: name of the quantity.
      setting: the settings of both sides.
      unit: see `Row`.
      sides: the values of our runs and, if there is one, of the baseline's.
    """
    row = measured(what, setting, unit, [statistics.median(runs) for runs in sides])
    ours, baseline = [*map(tuple, sides), ()][:2]
    return dataclasses.replace(row, our_runs=ours, baseline_runs=baseline)


def _spread(values: Sequence[float], show: Callable[[float], str]) -> str:
    return f" ({show(min(values))} to {show(max(values))})" if len(values) > 1 else ""


class Report:
    """Prints rows as they are added and, if asked, also writes each as a line of JSON."""

    def __init__(self, benchmark: str, *, repetitions: int, json_path: str | None = None) -> None:
        """Prints the machine and the head of the table, and empties the JSON file."""
        self._context = {"benchmark": benchmark, "repetitions": repetitions} | machine()
        self._json_path = Path(json_path) if json_path else None
        if self._json_path:
            self._json_path.write_text("")
        print(
            "{cpu}, {cores} cores; TensorFlow {tensorflow}, Keras {keras}, "
            "Python {python}.\n".format(**self._context)
        )
        print("| what | setting | ours | baseline | ratio |\n|---|---|---:|---:|---:|", flush=True)

    def add(self, row: Row) -> None:
        """Prints one line."""
        print(row.markdown(), flush=True)
        if self._json_path:
            line = self._context | dataclasses.asdict(row) | {"ratio": row.ratio}
            with self._json_path.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def finish(self, notes: str) -> None:
        """Prints how to read the table."""
        print(f"\n{notes}")


def machine() -> dict[str, str | int | None]:
    """Returns the CPU's model, the cores that this process may use, and the versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _cpu_model(),
        "cores": cores,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def add_arguments(
    parser: argparse.ArgumentParser, *, repetitions: int, flag: str = "--repetitions"
) -> None:
    """Adds the arguments that every benchmark has.

    Args:
      parser: parser of the subcommand.
      repetitions: default number of timed calls of each side.
      flag: name of the argument with the number.
    """
    parser.add_argument(
        flag,
        dest="repetitions",
        type=positive,
        default=repetitions,
        help="timed calls of each side; the table shows their median, and the two sides take "
        "turns (default: %(default)s)",
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        type=_writable,
        help="also write each line, with the machine and the versions, as a line of JSON",
    )


def positive(text: str) -> int:
    """Parses a whole number of at least 1, for argparse."""
    return at_least(1)(text)


def at_least(low: int) -> Callable[[str], int]:
    """Makes the argparse type of whole numbers of at least `low`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(f"needs a whole number >= {low}, got {text!r}")
        return int(text)

    return parse


def list_of(parse: Callable[[str], Value]) -> Callable[[str], list[Value]]:
    """Makes the argparse type of a list of values separated by commas."""
    return lambda text: [parse(part) for part in text.split(",")]


def _writable(text: str) -> str:
    try:
        Path(text).touch()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write {text!r}: {error.strerror}") from error
    return text
