"""Reads the lines of charts: what can be drawn of them, thinned, in words and as a table."""

import math

import numpy as np
from markupsafe import Markup

from tf_simclr.report import content
from tf_simclr.report.page.text import number, short, shorten, visible

# Larger values overflow when a plot adds margins to them.
_LARGEST = 1e300
_COLUMNS = 360
_TABLE_ROWS = 20
_READABLE_POINTS = 200


def can_draw(value: float, *, log: bool) -> bool:
    """Returns whether a value has a position on an axis."""
    return math.isfinite(value) and abs(value) < _LARGEST and (value > 0 or not log)


def drawable(line: content.Line, chart: content.Chart) -> tuple[np.ndarray, np.ndarray]:
    """Returns x and y, float64 (m,), of the points that have a position, in the order of x."""
    x, y = np.asarray(line.x, np.float64), np.asarray(line.y, np.float64)
    with np.errstate(invalid="ignore"):
        keep = np.isfinite(x) & np.isfinite(y) & (np.abs(x) < _LARGEST) & (np.abs(y) < _LARGEST)
        keep &= (x > 0) | (not chart.log_x)
        keep &= (y > 0) | (not chart.log_y)
    order = np.argsort(x[keep], kind="stable")
    return x[keep][order], y[keep][order]


def num_left_out(chart: content.Chart) -> int:
    """Returns the number of points that have no position in the chart."""
    return sum(len(line.x) - len(drawable(line, chart)[0]) for line in chart.lines)


def envelope(x: np.ndarray, y: np.ndarray, *, log_x: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lowest and highest point of each column of pixels, if there are many points.

    The drawing of them looks like the drawing of all points. Averages would hide outliers.

    Args:
      x: (n,), increasing.
      y: (n,).
      log_x: whether the horizontal axis is logarithmic.
    """
    if len(x) <= 2 * _COLUMNS:
        return x, y
    place = np.log(x) if log_x else x
    span = max(place[-1] - place[0], 1e-300)
    column = np.minimum(((place - place[0]) / span * _COLUMNS).astype(int), _COLUMNS - 1)
    starts = np.flatnonzero(np.diff(column, prepend=-1))
    ends = np.append(starts[1:], len(x))
    kept = {0, len(x) - 1}
    for start, end in zip(starts, ends, strict=True):
        kept |= {start + int(np.argmin(y[start:end])), start + int(np.argmax(y[start:end]))}
    chosen = np.array(sorted(kept))
    return x[chosen], y[chosen]


def readable(chart: content.Chart) -> list[list[list[float]]]:
    """Returns [x, y] of at most 200 points of each line, to read under the pointer."""
    points = []
    for line in chart.lines:
        x, y = drawable(line, chart)
        chosen = _spread(len(x), _READABLE_POINTS)
        points.append([[_significant(v) for v in x[chosen]], [_significant(v) for v in y[chosen]]])
    return points


def last(line: content.Line, chart: content.Chart) -> str:
    """Returns the last value of a line that can be drawn; "" if there is none."""
    _, y = drawable(line, chart)
    return number(float(y[-1])) if len(y) else ""


def description(chart: content.Chart) -> str:
    """Describes a chart in words, for those who cannot see it."""
    sentences = []
    x_label, y_label = (shorten(visible(text), 60) for text in (chart.x_label, chart.y_label))
    for line in chart.lines:
        x, y = drawable(line, chart)
        name = shorten(visible(line.name), 60) or shorten(visible(chart.title), 60)
        if not len(x):
            sentences.append(f"{name}: no value.")
            continue
        lowest, highest = float(y.min()), float(y.max())
        sentences.append(
            f"{name}: {number(y[0])} {y_label} at {x_label} {number(x[0])}, "
            f"{number(y[-1])} at {number(x[-1])}; "
            f"lowest {number(lowest)}, highest {number(highest)}."
        )
    if chart.reference:
        text = shorten(visible(chart.reference[0]), 60)
        sentences.append(f"Horizontal line: {text}, {number(chart.reference[1])}.")
    return " ".join(sentences)


def table(chart: content.Chart) -> Markup:
    """Returns HTML: about 20 points of the lines as a table, in <details>."""
    drawn = [drawable(line, chart) for line in chart.lines]
    rows_each = max(4, _TABLE_ROWS // max(1, len(drawn)))
    rows = []
    for line, (x, y) in zip(chart.lines, drawn, strict=True):
        for i in _spread(len(x), rows_each):
            name = Markup("<td>{}</td>").format(short(line.name, 40)) if len(drawn) > 1 else ""
            rows.append(
                Markup('<tr><th scope="row">{}</th>{}<td class="num">{}</td></tr>').format(
                    number(float(x[i])), name, number(float(y[i]))
                )
            )
    if not rows:
        return Markup()
    return Markup(
        '<details class="data"><summary>Values<span class="vh"> of {}</span></summary><table>'
        '<thead><tr><th scope="col">{}</th>{}<th scope="col" class="num">{}</th></tr></thead>'
        "<tbody>{}</tbody></table></details>"
    ).format(
        short(chart.title),
        short(chart.x_label, 40),
        Markup('<th scope="col">line</th>') if len(drawn) > 1 else "",
        short(chart.y_label, 40),
        Markup("").join(rows),
    )


def tick_labels(ticks: np.ndarray) -> list[str]:
    """Writes the ticks of an axis with as many decimals as their distance needs."""
    if not len(ticks):
        return []
    largest = float(np.max(np.abs(ticks)))
    steps = np.diff(ticks)
    even = len(ticks) < 2 or np.allclose(steps, steps[0], rtol=1e-3)
    if len(ticks) == 2 and ticks[0] > 0:
        even = ticks[1] / ticks[0] < 10
    if largest >= 1e9 or largest < 1e-3 or not even:
        return [_compact(float(tick)) for tick in ticks]
    unit, suffix = 1.0, ""
    if largest >= 1e6:
        unit, suffix = 1e6, "M"
    elif largest >= 1e5:
        unit, suffix = 1e3, "k"
    step = float(steps[0]) / unit if len(steps) else largest / unit
    decimals = next(d for d in range(20) if abs(round(step, d) - step) < 1e-3 * abs(step) or d > 15)
    return [
        (f"{tick / unit:,.{decimals}f}{suffix}" if tick else "0").replace("-", "−")
        for tick in ticks
    ]


def _compact(value: float) -> str:
    """1e-05 -> 1e-5; 1000 -> 1,000."""
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        mantissa, _, exponent = f"{value:.3g}".partition("e")
        return (f"{mantissa}e{int(exponent)}" if exponent else mantissa).replace("-", "−")
    return f"{value:,.4g}".replace("-", "−") if abs(value) < 1000 else f"{value:,.0f}"


def _spread(length: int, count: int) -> np.ndarray:
    """Returns at most `count` evenly spread indices below `length`, the first and last included."""
    if not length:
        return np.zeros(0, int)
    return np.unique(np.linspace(0, length - 1, min(length, count)).round().astype(int))


def _significant(value: float) -> float:
    return float(f"{value:.5g}") if value != round(value) else int(value)
