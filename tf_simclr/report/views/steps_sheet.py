"""Draws the steps from an image to its views, with the factors that were drawn."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tf_simclr.config import Config
from tf_simclr.data.augment import explain
from tf_simclr.data.augment.explain import Step
from tf_simclr.data.pipeline.first_batches import FirstBatch
from tf_simclr.report.views import tiles, views_sheet

_MARGIN, _GAP, _TILE = 0.15, 0.1, 1.2  # inches
_NOTE = 0.5  # height of the notes in inches
_CROP = "#e6550d"
_JITTER_COLUMNS = 4


def figure(config: Config, first: FirstBatch, index: int, *, data: str, where: str) -> Figure:
    """Draws one row for each view of an image: the image with its crop, then each step.

    Args:
      config: settings of the run.
      first: the batch that holds the image.
      index: index of the image in the batch.
      data: what the image is, for the title.
      where: "host" or "device".
    """
    views = [
        explain.steps(
            config,
            first.batch,
            index=index,
            view_index=view_index,
            image=first.images[index],
            box=first.boxes[index, view_index],
            seed=first.seeds[index, view_index],
        )
        for view_index in range(first.boxes.shape[1])
    ]
    pitch = _TILE + _GAP
    columns = 1 + max(_column(view, len(view) - 1) + 1 for view in views)
    width = max(5.0, 2 * _MARGIN + columns * pitch - _GAP)
    title, settings = views_sheet.headline(config, data=data, where=where)
    titles = tiles.wrapped(title, width - 2 * _MARGIN, 11)
    lines = tiles.wrapped(settings, width - 2 * _MARGIN, 8)
    top = _MARGIN + 0.2 * len(titles) + 0.15 * len(lines) + 0.15
    canvas = tiles.Canvas(width, top + len(views) * (_TILE + _NOTE) + _MARGIN / 2)
    canvas.text("\n".join(titles), _MARGIN, _MARGIN, size=11, weight="bold")
    y = _MARGIN + 0.2 * len(titles) + 0.02
    canvas.text("\n".join(lines), _MARGIN, y, color=tiles.PALE)
    for number, view in enumerate(views):
        y = top + number * (_TILE + _NOTE)
        name = f"view {number + 1}" if len(views) > 1 else "view"
        _draw_stored(canvas, first.images[index], first.boxes[index, number], name, y)
        for position, step in enumerate(view):
            _draw_step(canvas, step, _MARGIN + (1 + _column(view, position)) * pitch, y)
    return canvas.figure


def _column(view: list[Step], position: int) -> int:
    """Returns the column of a step; a skipped color jitter takes as many as its operations."""
    skips = any(step.name == explain.JITTER for step in view[:position])
    return position + (_JITTER_COLUMNS - 1 if skips else 0)


def _draw_stored(
    canvas: tiles.Canvas, image: np.ndarray, box: np.ndarray, name: str, y: float
) -> None:
    """Draws the image as stored, with the frame of its crop."""
    axes = canvas.image(image, _MARGIN, y, _TILE)
    top, left, height, width = map(int, box)
    for color, line in (("white", 2.4), (_CROP, 1.2)):
        axes.add_patch(
            Rectangle(
                (left, top), width, height, fill=False, edgecolor=color, lw=line, clip_on=False
            )
        )
    canvas.text(
        f"{name}\nof {image.shape[1]} × {image.shape[0]} pixels",
        _MARGIN + _TILE / 2,
        y + _TILE + 0.05,
        size=7,
        align="center",
    )


def _draw_step(canvas: tiles.Canvas, step: Step, x: float, y: float) -> None:
    canvas.image(step.image, x, y, _TILE)
    note = "\n".join(tiles.wrapped(step.note, _TILE, 7))
    shade = tiles.INK if step.is_applied else tiles.PALE
    canvas.text(note, x + _TILE / 2, y + _TILE + 0.05, size=7, color=shade, align="center")
    if step.name == explain.JITTER:
        pitch = _TILE + _GAP
        axes = canvas.figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, canvas.width), ylim=(canvas.height, 0))
        axes.set_axis_off()
        arrow = dict(arrowstyle="->", color=tiles.PALE, lw=1)
        start, end = x + pitch, x + _JITTER_COLUMNS * pitch - 2 * _GAP
        middle = y + _TILE / 2
        axes.annotate("", xy=(end, middle), xytext=(start, middle), arrowprops=arrow)
