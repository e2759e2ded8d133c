"""Draws the first training images and their views, as training sees them."""

import os

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from tf_simclr.config import Config
from tf_simclr.data.augment.device_views import DeviceViews
from tf_simclr.data.batch import num_views
from tf_simclr.data.pipeline.first_batches import FirstBatch
from tf_simclr.data.sources.folder import FOLDER
from tf_simclr.data.sources.protocol import Source
from tf_simclr.report import picture_file
from tf_simclr.report.views import tiles
from tf_simclr.training import run_input

DEFAULT_IMAGES = 8
_TASKS = {"pretrain": "pretraining", "finetune": "fine-tuning", "distill": "distillation"}
_MARGIN, _GAP, _TILE = 0.15, 0.06, 1.2  # inches
_LETTERS = 20  # of a class or file name
_ROWS_IN_BLOCK = 4


def draw(config: Config, source: Source, *, on_cpu: bool) -> bytes:
    """Returns views.png for the start of a run.

    It computes on the CPU, because the model needs the memory of other devices. Views are drawn
    from the same random numbers on every device.

    Args:
      config: settings of the run; the seed must be set.
      source: the data set.
      on_cpu: whether the model computes on a CPU; --augment_on=auto depends on it.

    Raises:
      ConfigError, UndecodableError, tf.errors.OpError: the images cannot be read.
    """
    where = run_input.augments_on(config, source, on_cpu=on_cpu)
    first = read(config, source, count=DEFAULT_IMAGES, where=where)
    drawn = figure(config, source, first, where=where)
    return picture_file.encode(drawn, ".png", dpi=tiles.DPI, is_cropped=False)


def read(config: Config, source: Source, *, count: int, where: str) -> FirstBatch:
    """Reads the first training images (`run_input.first_batch`).

    Args:
      config: settings of the run; the seed must be set.
      source: the data set.
      count: number of images.
      where: "host" or "device", see `run_input.augments_on`.
    """
    with tf.device("CPU:0"):
        return run_input.first_batch(config, source, count=count, on_device=where == "device")


def views_of(config: Config, first: FirstBatch) -> list[np.ndarray]:
    """Returns the views of a batch in the first step, float32 (n, s, s, 3) for each view."""
    with tf.device("CPU:0"):
        views = DeviceViews(config).views(first.batch, step=0, part=0)
    return [view.numpy() for view in views]


def headline(config: Config, *, data: str, where: str) -> tuple[str, str]:
    """Returns the title of a figure, and a line about the settings of the views.

    Args:
      config: settings of the run.
      data: what the images are, e.g. "cifar10, split train".
      where: "host" or "device".
    """
    size, augment = config.data.image_size, config.augment
    parts = [f"image_size {size}"]
    if config.training.train_mode == "pretrain":
        parts.append(f"color_jitter_strength {augment.color_jitter_strength:g}")
        parts.append("blur" if augment.use_blur else "no blur")
    else:
        parts.append("no color jitter, no blur")
    parts.append(f"augmented on the {where}, seed {config.runtime.seed}")
    return f"Views for {_TASKS[config.training.train_mode]}: {data}", ", ".join(parts)


def data_name(config: Config) -> str:
    """Names the images of a run: data set and split."""
    data = config.data
    name = data.dataset
    if name == FOLDER and data.data_dir:
        name = f"folder {os.path.basename(os.path.normpath(data.data_dir))}"
    return tiles.printable(f"{name}, split {data.train_split}", 80)


def figure(config: Config, source: Source, first: FirstBatch, *, where: str) -> Figure:
    """Draws one row for each image: its names, the image as stored, and its views.

    Args:
      config: settings of the run.
      source: the data set.
      first: the images.
      where: "host" or "device".
    """
    views = views_of(config, first)
    labels = [row_names(config, source, first, i) for i in range(len(first.images))]
    blocks = 2 if len(labels) > _ROWS_IN_BLOCK else 1
    rows = -(-len(labels) // blocks)
    longest = max((len(line) for lines in labels for line in lines), default=0)
    label_width = 0.06 * longest + 0.15 if longest else 0.0
    columns = 1 + num_views(config.training.train_mode)
    pitch = _TILE + _GAP
    block_width = label_width + columns * pitch - _GAP
    width = max(4.2, 2 * _MARGIN + blocks * block_width + (blocks - 1) * 3 * _MARGIN)
    title, settings = headline(config, data=data_name(config), where=where)
    titles = tiles.wrapped(title, width - 2 * _MARGIN, 11)
    lines = tiles.wrapped(settings, width - 2 * _MARGIN, 8)
    top = _MARGIN + 0.2 * len(titles) + 0.15 * len(lines) + 0.32
    canvas = tiles.Canvas(width, top + rows * pitch - _GAP + _MARGIN)
    canvas.text("\n".join(titles), _MARGIN, _MARGIN, size=11, weight="bold")
    y = _MARGIN + 0.2 * len(titles) + 0.02
    canvas.text("\n".join(lines), _MARGIN, y, color=tiles.PALE)
    names = ["as stored", *("view 1", "view 2")[: columns - 1]] if columns > 2 else ["as stored"]
    names += ["view"] if columns == 2 else []
    for i, label in enumerate(labels):
        block, row = divmod(i, rows)
        left = _MARGIN + block * (block_width + 3 * _MARGIN) + label_width
        y = top + row * pitch
        if not row:
            for column, name in enumerate(names):
                x = left + column * pitch + _TILE / 2
                canvas.text(name, x, top - 0.18, color=tiles.PALE, align="center")
        for number, line in enumerate(label):
            shade = tiles.PALE if number else tiles.INK
            start = y + _TILE / 2 - 0.07 * len(label) + 0.14 * number
            canvas.text(line, left - 0.1, start, color=shade, align="right")
        for column, pixels in enumerate((first.images[i], *(view[i] for view in views))):
            canvas.image(pixels, left + column * pitch, y, _TILE)
    return canvas.figure


def row_names(config: Config, source: Source, first: FirstBatch, index: int) -> list[str]:
    """Returns class name and file name of an image, those that it has.

    A stand-in says so.
    """
    result = []
    label, names = int(first.labels[index]), source.class_names
    if names and 0 <= label < len(names):
        result.append(tiles.printable(names[label], _LETTERS))
    if config.data.dataset == FOLDER:
        path = first.ids[index].decode(errors="replace")
        result.append(tiles.printable(os.path.basename(path), _LETTERS))
    if first.batch.skipped[index] > 0:
        result += ["stand-in for one that", "cannot be decoded"]
    return result
