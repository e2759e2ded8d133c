"""Draws a map of embeddings for papers."""

from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402

# Okabe and Ito's colors, which people with any color vision can tell apart. Black is last, and
# yellow is darker than theirs, because points are small and paper is white.
COLORS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#d9c800",
    "#000000",
)
# More groups than colors repeat the colors with the next marker.
MARKERS = ("o", "^", "s", "D", "v")
MAX_GROUPS = len(COLORS) * len(MARKERS)
OTHERS = "#bbbbbb"
INCHES = 4.0  # side of the map
_MARGIN = 0.03  # beside the outermost points, as a part of the map
_ROWS = 20  # rows of the legend
_NAME = 28  # characters of a name in the legend


def figure(
    coordinates: np.ndarray,
    groups: np.ndarray,
    group_names: Sequence[str],
    *,
    images: np.ndarray | None = None,
    title: str | None = None,
) -> Figure:
    """Draws points, or images, at their places on a map.

    The first 8 groups have the colors of Okabe and Ito. More groups repeat them with another
    marker, up to 40 groups. Of more than 40, the 39 largest are drawn so; the others are gray.
    Images of more than 8 groups have gray frames, and no legend.

    Args:
      coordinates: (n, 2) in [0, 1].
      groups: int (n,), indices into group_names, -1 for none.
      group_names: names of the groups.
      images: uint8 (n, h, h, 3), drawn instead of points, with frames in the colors of the groups;
        None for points.
      title: a title; None for none.
    """
    styles, others = _styles(groups, len(group_names))
    # One of the axes is used from 0 to 1. The figure is as narrow as the points on the other.
    low, high = coordinates.min(axis=0) - _MARGIN, coordinates.max(axis=0) + _MARGIN
    width, height = np.maximum(high - low, 0.3)
    fig, axis = plt.subplots(figsize=(INCHES * width, INCHES * height))
    axis.set_axis_off()
    axis.set_aspect("equal")
    if images is None:
        _draw_points(axis, coordinates, groups, styles)
    else:
        has_colors = len(group_names) <= len(COLORS)
        _draw_images(axis, coordinates, groups, images, styles if has_colors else {})
    axis.set_xlim(low[0], high[0])
    axis.set_ylim(low[1], high[1])
    if title:
        axis.set_title(_plain(title), fontsize=10)
    fig.subplots_adjust(0, 0, 1, 0.93 if title else 1)
    # Frames have no markers, so more groups than colors have none in common with a legend.
    has_legend = images is None or len(group_names) <= len(COLORS)
    if has_legend and (len(group_names) > 1 or (groups < 0).any()):
        _draw_legend(axis, styles, group_names, others, has_none=bool((groups < 0).any()))
    return fig


def _styles(groups: np.ndarray, count: int) -> tuple[dict[int, tuple[str, str]], int]:
    """Returns {group: (color, marker)} of the groups in the legend, and the number of others."""
    shown = list(range(count))
    if count > MAX_GROUPS:
        sizes = np.bincount(groups[groups >= 0], minlength=count)
        shown = sorted(np.argsort(-sizes, kind="stable")[: MAX_GROUPS - 1].tolist())
    styles = {
        group: (COLORS[i % len(COLORS)], MARKERS[i // len(COLORS)]) for i, group in enumerate(shown)
    }
    return styles, count - len(shown)


def _draw_points(axis: Axes, coordinates: np.ndarray, groups: np.ndarray, styles: dict):
    size = float(np.clip(9000 / len(coordinates), 1.5, 24))
    is_other = ~np.isin(groups, list(styles))
    x, y = coordinates.T
    axis.scatter(x[is_other], y[is_other], s=0.7 * size, c=OTHERS, linewidths=0, rasterized=True)
    # All groups in one random order, so that the last ones do not hide the first ones.
    order = np.random.default_rng(0).permutation(len(coordinates))
    for marker in MARKERS:
        members = {g: color for g, (color, m) in styles.items() if m == marker}
        rows = order[np.isin(groups[order], list(members))]
        axis.scatter(
            x[rows],
            y[rows],
            s=size,
            c=[members[group] for group in groups[rows]],
            marker=marker,
            linewidths=0,
            alpha=0.85,
            rasterized=len(coordinates) > 5000,  # a vector file of all points would be slow
        )


def _draw_images(
    axis: Axes, coordinates: np.ndarray, groups: np.ndarray, images: np.ndarray, styles: dict
):
    """Draws as many images as do not hide each other: at most one in each cell of a grid."""
    cells = int(np.clip(1.2 * len(coordinates) ** 0.5, 4, 40))
    half = 0.48 / cells
    taken = set()
    for row, (x, y) in enumerate(coordinates):
        cell = (min(int(x * cells), cells - 1), min(int(y * cells), cells - 1))
        if cell in taken:
            continue
        taken.add(cell)
        x, y = ((c + 0.5) / cells for c in cell)
        color = styles.get(int(groups[row]), (OTHERS, ""))[0]
        extent = (x - half, x + half, y - half, y + half)
        axis.imshow(images[row], extent=extent, interpolation="antialiased", zorder=1)
        frame = plt.Rectangle(
            (x - half, y - half), 2 * half, 2 * half, fill=False, color=color, linewidth=1, zorder=2
        )
        axis.add_patch(frame)


def _draw_legend(
    axis: Axes, styles: dict, names: Sequence[str], others: int, *, has_none: bool
) -> None:
    entries = [(color, marker, names[group]) for group, (color, marker) in styles.items()]
    if others:
        entries.append((OTHERS, "o", f"{others:,} other groups"))
    if has_none:
        entries.append((OTHERS, "o", "without a label"))
    handles = [
        Line2D([], [], linestyle="", color=color, marker=marker, markersize=5)
        for color, marker, _ in entries
    ]
    axis.legend(
        handles,
        [_plain(_short(name)) for *_, name in entries],
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        ncols=-(-len(entries) // _ROWS),
        fontsize=8,
        frameon=False,
        handletextpad=0.2,
        columnspacing=0.8,
        borderaxespad=0,
    )


def _short(name: str) -> str:
    return name if len(name) <= _NAME else name[: _NAME - 1] + "…"


def _plain(text: str) -> str:
    """Escapes what Matplotlib reads as mathematics, and replaces control characters."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return printable.replace("\\", "/").replace("$", r"\$")
