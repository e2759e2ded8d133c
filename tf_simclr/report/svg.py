"""Draws the charts of a report as inline SVG whose colors follow the theme of the page.

Matplotlib draws them with placeholders for colors, which then become CSS variables. The page forbids
style attributes, so styles become presentation attributes.
"""

import io
import re
import xml.etree.ElementTree as ET

import matplotlib
import matplotlib.ticker
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from tf_simclr.report import content, lines
from tf_simclr.report.text import shorten, visible

WIDTH, HEIGHT = 360, 212
NUM_SERIES = 8
_TOP, _BOTTOM, _RIGHT = 24, 40, 10
_CHAR = 6.7  # width of a digit of a tick's label
_DASHES: tuple = ("-", (0, (5, 1.8)), (0, (1.6, 1.4)), (0, (7, 1.6, 1.6, 1.6)))
_GRID, _AXIS, _LABEL, _REFERENCE = "#0000f1", "#0000f2", "#0000f3", "#0000f4"
_COLORS = {
    _GRID: "var(--grid)",
    _AXIS: "var(--axis)",
    _LABEL: "var(--muted)",
    _REFERENCE: "var(--muted)",
} | {f"#0000{i:02x}": f"var(--series-{i})" for i in range(1, NUM_SERIES + 1)}
_KEPT_STYLES = {
    "fill",
    "stroke",
    "stroke-width",
    "stroke-dasharray",
    "opacity",
    "fill-opacity",
    "stroke-opacity",
    "text-anchor",
}


def series(index: int) -> tuple[int, int]:
    """Returns the number of the color, from 1, and of the dashes, from 0, of a line.

    Neighboring lines differ in both. 32 lines have different pairs.
    """
    return index % NUM_SERIES + 1, (index + index // NUM_SERIES) % len(_DASHES)


def chart(chart: content.Chart) -> Markup:
    """Draws a chart.

    Args:
      chart: the chart. Values that are not finite, or not positive on a logarithmic axis, are left
        out.

    Returns:
      An <svg> with a title, a description, and the geometry of its axes in data attributes, for
      reading values under the pointer. `lines.table` has the table for those who cannot see it.
    """
    with matplotlib.rc_context(_rc(chart.id)):
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72)
        figure.patch.set_visible(False)
        axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
        _draw_lines(axes, chart)
        _draw_axes(axes, chart)
        file = io.BytesIO()
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None, "Creator": None})
    box = axes.get_position().bounds
    return _finish(file.getvalue(), chart, _geometry(axes, box))


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


def _draw_axes(axes: Axes, chart: content.Chart) -> None:
    """Draws a calm frame: horizontal grid lines, one base line, few labels in plain text."""
    axes.margins(x=0.015, y=0.08)
    # Without a padded range a constant line would have the range of its rounding errors.
    if not chart.log_y:
        low, high = axes.get_ylim()
        if high - low < 1e-6 * max(abs(low), abs(high), 1e-12):
            pad = max(abs(low) * 0.1, 1e-6)
            axes.set_ylim(low - pad, high + pad)
    left = max(
        _ticks(axes.xaxis, axes.get_xlim(), chart.log_x, 5),
        _ticks(axes.yaxis, axes.get_ylim(), chart.log_y, 4),
    )
    left = left * _CHAR + 10
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
    plain = {"color": _LABEL, "fontsize": 12, "parse_math": False}
    axes.set_xlabel(shorten(visible(chart.x_label), 50), labelpad=4, **plain)
    y_label = shorten(visible(chart.y_label), 50)
    axes.text(0.02, 1 - 13 / HEIGHT, y_label, transform=axes.figure.transFigure, **plain)
    if chart.reference and lines.can_draw(chart.reference[1], log=chart.log_y):
        text, y = chart.reference
        place = axes.transAxes.inverted().transform(
            axes.transData.transform((axes.get_xlim()[0], y))
        )
        above = place[1] < 0.85
        axes.annotate(
            shorten(visible(text), 40),
            (1, y),
            xycoords=("axes fraction", "data"),
            xytext=(0, 4 if above else -4),
            textcoords="offset points",
            ha="right",
            va="bottom" if above else "top",
            **plain,
        )


def _ticks(axis, limits: tuple[float, float], log: bool, count: int) -> int:
    """Sets the ticks of an axis. Returns the length of the longest label of a vertical axis."""
    low, high = sorted(limits)
    if log and high / low > 30:
        found = matplotlib.ticker.LogLocator(base=10, numticks=count + 1).tick_values(low, high)
    else:
        found = matplotlib.ticker.MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(
            low, high
        )
    ticks = np.array([tick for tick in found if low <= tick <= high])
    labels = lines.tick_labels(ticks)
    axis.set_major_locator(matplotlib.ticker.FixedLocator(ticks))
    axis.set_major_formatter(matplotlib.ticker.FixedFormatter(labels))
    axis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axis.axes.set_xlim(limits) if axis.axis_name == "x" else axis.axes.set_ylim(limits)
    return max(map(len, labels), default=1) if axis.axis_name == "y" else 1


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


def _finish(svg: bytes, chart: content.Chart, geometry: dict[str, str]) -> Markup:
    root = ET.fromstring(svg)
    drawing = "".join(_element(child, chart.id) for child in root)
    attributes = "".join(f' {name}="{value}"' for name, value in geometry.items())
    return Markup(
        '<svg class="plot" role="img" viewBox="0 0 {} {}" aria-labelledby="{}-title {}-desc"{}>'
        '<title id="{}-title">{}</title><desc id="{}-desc">{}</desc>{}</svg>'
    ).format(
        WIDTH,
        HEIGHT,
        chart.id,
        chart.id,
        Markup(attributes),
        chart.id,
        shorten(visible(chart.title), 200),
        chart.id,
        lines.description(chart),
        Markup(drawing),
    )


def _element(element: ET.Element, prefix: str) -> str:
    """Writes an element of Matplotlib's SVG without styles, metadata and needless groups."""
    tag = element.tag.rpartition("}")[2]
    if tag in ("metadata", "style"):
        return ""
    inside = "".join(_element(child, prefix) for child in element)
    if element.text and tag == "text":
        inside += escape(element.text)
    attributes = _attributes(element, tag, prefix)
    if tag in ("g", "defs") and (not inside or not attributes):
        return f"<defs>{inside}</defs>" if tag == "defs" and inside else inside
    written = "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())
    return f"<{tag}{written}>{inside}</{tag}>" if inside else f"<{tag}{written}/>"


def _attributes(element: ET.Element, tag: str, prefix: str) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for name, value in element.items():
        name = name.rpartition("}")[2]
        if name == "style":
            attributes |= _styles(value)
        elif name == "href":
            attributes[name] = f"#{prefix}-{value[1:]}"
        elif name == "clip-path":
            attributes[name] = value.replace("#", f"#{prefix}-")
        elif name == "id" and tag != "g":
            attributes[name] = f"{prefix}-{value}"
        elif name == "transform" and re.fullmatch(r"rotate\(-?0 .*\)", value):
            continue
        elif name != "id":
            attributes[name] = re.sub(r"-?\d+\.\d{3,}", _round, " ".join(value.split()))
    return attributes


def _styles(style: str) -> dict[str, str]:
    pairs = (part.partition(":") for part in style.split(";"))
    styles = {name.strip(): value.strip() for name, _, value in pairs}
    return {
        name: _COLORS.get(value, value) for name, value in styles.items() if name in _KEPT_STYLES
    }


def _round(match: re.Match) -> str:
    return f"{float(match[0]):.2f}".rstrip("0").rstrip(".")
