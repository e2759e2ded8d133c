"""Decides what counts as equal, and prints the lines of verify_golden."""

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import SupportsInt

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

LOSS = 1e-4  # relative: losses, logits, endpoints, learning rates, metrics, moving averages
GRADIENT = 1e-3  # relative: gradients and their norms
WEIGHT = 1e-5  # relative: weights after LARS steps
RESIZED_PIXEL = 2 / 255  # absolute: images that were resized
PIXEL = 1e-5  # absolute: other images
MIN_P_VALUE = 1e-4  # two-sample Kolmogorov-Smirnov test of random quantities

_ROW = "{:<60} {:>9} {:>9}  {:<11} {:<7} {}"
HEADER = _ROW.format("quantity", "max abs", "max rel", "tolerance", "", "").rstrip()


def difference(got: ArrayLike, expected: ArrayLike, *, scale: float = 0.0) -> tuple[float, float]:
    """Returns max|got - expected|, and its ratio to max(max|expected|, scale).

    Raises:
      ValueError: the shapes differ, or the arrays are empty.
    """
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if got.shape != expected.shape:
        raise ValueError(f"shape {got.shape} instead of {expected.shape}")
    if not expected.size:
        raise ValueError("the golden array is empty")
    absolute = float(np.max(np.abs(got - expected)))
    scale = max(float(np.max(np.abs(expected))), scale)
    if scale:
        return absolute, absolute / scale
    return absolute, 0.0 if absolute == 0 else math.inf


class Report:
    """Prints a line for each quantity and counts the quantities.

    Attributes:
      compared: number of quantities compared so far.
      num_wrong: number of quantities that are wrong.
    """

    def __init__(self) -> None:
        self.compared = 0
        self.num_wrong = 0

    def close(
        self,
        name: str,
        got: ArrayLike,
        expected: ArrayLike,
        *,
        relative: float | None = None,
        absolute: float | None = None,
    ) -> None:
        """Compares two arrays with a relative or an absolute tolerance."""
        self.close_each(name, {"": (got, expected)}, relative=relative, absolute=absolute)

    def close_each(
        self,
        name: str,
        pairs: Mapping[str, tuple],
        *,
        relative: float | Mapping[str, float] | None = None,
        absolute: float | None = None,
        scale: float = 0.0,
    ) -> None:
        """Compares pairs (got, expected) by label, each relative to its own size.

        Prints one line with the worst pair if all pairs agree, else a line for each wrong pair.

        Args:
          name: name of the quantity.
          pairs: {label: (got, expected)}.
          relative: relative tolerance of all pairs, or {label: tolerance}.
          absolute: absolute tolerance of all pairs; either this or `relative` is given.
          scale: lower bound of the size; keeps rounding noise around 0 from counting.
        """
        kind, tolerance = ("rel", relative) if absolute is None else ("abs", absolute)
        assert tolerance is not None
        rows, wrong = [], []
        for label, (got, expected) in pairs.items():
            try:
                by_size = difference(got, expected, scale=scale)
            except ValueError as mismatch:
                self.wrong(f"{name} {label}".rstrip(), str(mismatch))
                continue
            allowed = tolerance[label] if isinstance(tolerance, Mapping) else tolerance
            error = by_size[1 if kind == "rel" else 0] / allowed
            row = (error, by_size, label, f"{kind} {allowed:.1e}")
            rows.append(row)
            if not error <= 1:  # also if it is NaN
                wrong.append(row)
        for _, by_size, label, limit in wrong:
            absolute_error, relative_error = map(_short, by_size)
            self._count(f"{name} {label}".rstrip(), absolute_error, relative_error, limit, ok=False)
        if rows and len(rows) == len(pairs) and not wrong:
            _, by_size, label, limit = max(rows)
            remark = f"worst of {len(pairs)}: {label}" if len(pairs) > 1 else label
            absolute_error, relative_error = map(_short, by_size)
            self._count(name, absolute_error, relative_error, limit, ok=True, remark=remark)

    def exact(self, name: str, got: int, expected: SupportsInt) -> None:
        """Compares two counts."""
        expected = int(expected)
        remark = f"{got}" if got == expected else f"{got} instead of {expected}"
        self._count(name, str(abs(got - expected)), "", "exact", ok=got == expected, remark=remark)

    def same_distribution(self, name: str, got: np.ndarray, expected: np.ndarray) -> None:
        """Tests whether the samples (n,) and (m,) come from the same distribution."""
        test = stats.ks_2samp(got, expected, method="asymp")
        self._count(
            name,
            f"D {test.statistic:.3f}",
            f"p {_short(test.pvalue)}",
            f"p > {_short(MIN_P_VALUE)}",
            ok=test.pvalue > MIN_P_VALUE,
        )

    def wrong(self, name: str, reason: str) -> None:
        """Counts a quantity that could not be compared as wrong."""
        self._count(name, "", "", "", ok=False, remark=reason)

    def skipped(self, name: str, reason: str) -> None:
        """Prints that something is left out, and why."""
        print(_ROW.format(name, "", "", "", "skipped", reason))

    def not_compared(self, names: Iterable[str]) -> None:
        """Prints the names of unknown files and fields, because nothing may be ignored silently."""
        for name in sorted(names):
            self.skipped(name, "not compared: unknown to this tool")

    def note(self, text: str) -> None:
        """Prints a remark about the lines that follow."""
        print(f"note: {text}")

    @contextlib.contextmanager
    def guard(self, name: str) -> Iterator[None]:
        """Turns any exception of the block into one WRONG line."""
        try:
            yield
        except Exception as error:  # a golden file may hold anything
            lines = str(error).strip().splitlines() or [""]
            self.wrong(name, f"{type(error).__name__}: {lines[0][:200]}")

    def finish(self) -> int:
        """Prints the last line and returns the exit status."""
        if self.num_wrong:
            print(f"{self.num_wrong} of {self.compared} quantities WRONG")
        elif self.compared:
            print(f"{self.compared} quantities compared: all ok")
        else:
            print("nothing was compared")
        return 0 if self.compared and not self.num_wrong else 1

    def _count(self, name, absolute, relative, limit, *, ok, remark=""):
        self.compared += 1
        self.num_wrong += not ok
        row = _ROW.format(name, absolute, relative, limit, "ok" if ok else "WRONG", remark)
        print(row.rstrip(), flush=True)


def _short(number: float) -> str:
    return "0" if number == 0 else f"{number:.1e}"
