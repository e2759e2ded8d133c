"""Plots the lines of a chart with Matplotlib, in placeholders for the colors of the page."""

import io
from typing import Any

import matplotlib
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from tf_simclr.report import content
from tf_simclr.report.page import lines
from tf_simclr.report.page.text import shorten, visible

WIDTH, HEIGHT = 360, 212
NUM_SERIES = 8
_TOP, _BOTTOM, _RIGHT = 24, 40, 10
_CHAR = 6.7  # width of a digit of a tick's label
_DASHES: tuple = ("-", (0, (5, 1.8)), (0, (1.6, 1.4)), (0, (7, 1.6, 1.6, 1.6)))
_GRID, _AXIS, _LABEL, _REFERENCE = "#0000f1", "#0000f2", "#0000f3", "#0000f4"
COLORS = {
    _GRID: "var(--grid)",
    _AXIS: "var(--axis)",
    _LABEL: "var(--muted)",
    _REFERENCE: "var(--muted)",
} | {f"#0000{i:02x}": f"var(--series-{i})" for i in range(1, NUM_SERIES + 1)}


def series(index: int) -> tuple[int, int]:
    """Returns the number of the color, from 1, and of the dashes, from 0, of a line.

    Neighboring lines differ in both. 32 lines have different pairs.
    """
    return index % NUM_SERIES + 1, (index + index // NUM_SERIES) % len(_DASHES)


def draw(chart: content.Chart) -> tuple[bytes, dict[str, str]]:
    """Draws a chart.

    Returns:
      An SVG document of WIDTH by HEIGHT, with the colors of COLORS, and the geometry of its axes as
      attributes: the edges of the box, and the ranges of x and y.
    """
    with matplotlib.rc_context(_rc(chart.id)):
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72)
        figure.patch.set_visible(False)
        axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
        _draw_lines(axes, chart)
        _draw_axes(figure, axes, chart)
        file = io.BytesIO()
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None, "Creator": None})
    return file.getvalue(), _geometry(axes, axes.get_position().bounds)


def _rc(salt: str) -> dict:
    """Returns Matplotlib's own defaults, whatever the user's matplotlibrc, and SVG with text."""
    defaults = {
        name: value
        for name, value in matplotlib.rcParamsDefault.items()
        if not name.startswith(("backend", "toolbar", "interactive"))
    }
    return defaults | {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "font.size": 12,
        "path.simplify": True,
        "path.simplify_threshold": 0.2,
        "axes.formatter.use_mathtext": False,
    }


def _draw_lines(axes: Axes, chart: content.Chart) -> None:
    if chart.log_x:
        axes.set_xscale("log")
    if chart.log_y:
        axes.set_yscale("log")
    for index, line in enumerate(chart.lines):
        color, dashes = series(index)
        x, y = lines.drawable(line, chart)
        x, y = lines.envelope(x, y, log_x=chart.log_x)
        # A line of few points shows where they are; a single point would otherwise be invisible.
        marker = "o" if len(x) <= 12 else None
        axes.plot(
            x,
            y,
            color=f"#0000{color:02x}",
            linestyle=_DASHES[dashes],
            linewidth=1.6,
            marker=marker,
            markersize=4,
            markeredgewidth=0,
            zorder=3 - index / 100,
        )
    if chart.reference and lines.can_draw(chart.reference[1], log=chart.log_y):
        axes.axhline(
            chart.reference[1], color=_REFERENCE, linewidth=1, linestyle=(0, (2, 2)), zorder=2
        )


def _draw_axes(figure: Figure, axes: Axes, chart: content.Chart) -> None:
    """Draws a calm frame: horizontal grid lines, one base line, few labels in plain text."""
    axes.margins(x=0.015, y=0.08)
    _set_vertical_range(axes, chart)
    _ticks(axes.xaxis, axes.get_xlim(), chart.log_x, 5)
    places = {float(x) for line in chart.lines for x in lines.drawable(line, chart)[0]}
    if len(places) == 1:
        # The range around a single step would be of fractions of steps.
        axes.xaxis.set_major_locator(matplotlib.ticker.FixedLocator([*places]))
        axes.xaxis.set_major_formatter(
            matplotlib.ticker.FixedFormatter(lines.tick_labels(np.array([*places])))
        )
    left = _ticks(axes.yaxis, axes.get_ylim(), chart.log_y, 4) * _CHAR + 10
    axes.set_position(
        (
            left / WIDTH,
            _BOTTOM / HEIGHT,
            (WIDTH - left - _RIGHT) / WIDTH,
            (HEIGHT - _TOP - _BOTTOM) / HEIGHT,
        )
    )
    axes.patch.set_visible(False)
    axes.minorticks_off()
    axes.tick_params(length=0, pad=5, labelcolor=_LABEL, labelsize=12)
    axes.grid(axis="y", color=_GRID, linewidth=1)
    axes.set_axisbelow(True)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set(color=_AXIS, linewidth=1)
    plain: dict[str, Any] = {"color": _LABEL, "fontsize": 12, "parse_math": False}
    axes.set_xlabel(shorten(visible(chart.x_label), 40), labelpad=4, **plain)
    y_label = shorten(visible(chart.y_label), 40)
    axes.text(0.02, 1 - 13 / HEIGHT, y_label, transform=figure.transFigure, **plain)
    if chart.reference and lines.can_draw(chart.reference[1], log=chart.log_y):
        axes.annotate(
            shorten(visible(chart.reference[0]), 40),
            (1, chart.reference[1]),
            xycoords=axes.get_yaxis_transform(),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            va="bottom",
            **plain,
        )


def _set_vertical_range(axes: Axes, chart: content.Chart) -> None:
    """Makes room for a constant line, and for the text above a reference."""
    low, high = axes.get_ylim()
    # Without a padded range a constant line would have the range of its rounding errors.
    if not chart.log_y and high - low < 1e-6 * max(abs(low), abs(high), 1e-12):
        pad = max(abs(low) * 0.1, 1e-6)
        low, high = low - pad, high + pad
    if chart.reference and lines.can_draw(chart.reference[1], log=chart.log_y):
        level = chart.reference[1]
        if chart.log_y:
            high = max(high, low * (level / low) ** (1 / 0.88))
        else:
            high = max(high, low + (level - low) / 0.88)
    axes.set_ylim(low, high)


def _ticks(axis: Axis, limits: tuple[float, float], log: bool, count: int) -> int:
    """Sets the ticks of an axis. Returns the length of the longest label."""
    low, high = sorted(limits)
    if log and high / low > 30:
        found = matplotlib.ticker.LogLocator(base=10, numticks=count + 1).tick_values(low, high)
    else:
        found = matplotlib.ticker.MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(
            low, high
        )
    ticks = [float(tick) for tick in found if low <= tick <= high]
    labels = lines.tick_labels(np.array(ticks))
    axis.set_major_locator(matplotlib.ticker.FixedLocator(ticks))
    axis.set_major_formatter(matplotlib.ticker.FixedFormatter(labels))
    axis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axis.set_view_interval(*limits, ignore=True)
    return max(map(len, labels), default=1)


def _geometry(axes: Axes, box: tuple[float, float, float, float]) -> dict[str, str]:
    left, bottom, width, height = box
    logs = {f"data-log-{a}": "" for a in "xy" if getattr(axes, f"get_{a}scale")() == "log"}
    edges = (
        left * WIDTH,
        (1 - bottom - height) * HEIGHT,
        (left + width) * WIDTH,
        (1 - bottom) * HEIGHT,
    )
    return {
        "data-box": " ".join(f"{edge:.2f}" for edge in edges),
        "data-x": " ".join(map(repr, map(float, axes.get_xlim()))),
        "data-y": " ".join(map(repr, map(float, axes.get_ylim()))),
    } | logs
