"""Draws the views of a run's training images for `tf-simclr show views`."""

import os
import sys

import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.data import errors
from tf_simclr.data.pipeline import first_batches
from tf_simclr.data.sources import image_range
from tf_simclr.data.sources.opening import limit_labels, open_data
from tf_simclr.errors import ConfigError
from tf_simclr.modes import pictures
from tf_simclr.report import picture_file
from tf_simclr.report.views import steps_sheet, tiles, views_sheet
from tf_simclr.training import run_input


def draw(config: Config, *, count: int, explained: str | None, suffix: str) -> bytes:
    """Draws a sheet of training images and their views, or the steps of one image.

    Args:
      config: checked settings. If the seed is unset, it is 0.
      count: number of images to read.
      explained: the image whose steps to draw: a number from 1 to count, or a file; None for the
        sheet.
      suffix: one of picture_file.FORMATS.

    Raises:
      ConfigError: the data set or an image cannot be read.
    """
    if config.runtime.seed is None:
        config = config.replace(seed=0)
    on_cpu = not tf.config.list_physical_devices("GPU")
    if not on_cpu:
        tf.config.set_visible_devices([], "GPU")  # a run may be using its memory
    try:
        with errors.in_one_line():
            figure = _figure(config, count, explained, on_cpu)
    except errors.UndecodableError as error:
        raise ConfigError(str(error)) from None
    return picture_file.encode(figure, suffix, dpi=tiles.DPI, is_cropped=False)


def _figure(config: Config, count: int, explained: str | None, on_cpu: bool):
    if explained is not None and not explained.isdecimal():
        return _steps_of_file(config, explained, on_cpu)
    source = limit_labels(config, open_data(config))
    where = run_input.augments_on(config, source, on_cpu=on_cpu)
    first = views_sheet.read(config, source, count=count, where=where)
    if len(first.images) < count:
        print(f"The split has only {len(first.images)} images.", file=sys.stderr)
    if explained is None:
        return views_sheet.figure(config, source, first, where=where)
    index = int(explained) - 1
    if index >= len(first.images):
        raise ConfigError(
            f"image must be from 1 to {len(first.images)}, the images in split "
            f"{config.data.train_split}, got {explained}"
        )
    names = " ".join(views_sheet.row_names(config, source, first, index))
    data = f"{views_sheet.data_name(config)}, image {explained}{f' ({names})' if names else ''}"
    return steps_sheet.figure(config, first, index, data=data, where=where)


def _steps_of_file(config: Config, path: str, on_cpu: bool):
    data = config.data
    reader = pictures.PictureReader(image_range.parse(data.image_range), data.max_megapixels)
    image, is_decoded = reader.read(os.fsencode(path))
    if not is_decoded:
        raise ConfigError(f"image {path!r} cannot be decoded ({reader.summary()}): give another")
    where = config.augment.augment_on
    if where == "auto":  # an image of any size; see run_input.augments_on
        where = "host" if on_cpu else "device"
    views = run_input.view_settings(config, on_device=where == "device")
    seed = config.runtime.seed
    assert seed is not None, "draw sets it"
    with tf.device("CPU:0"):
        first = first_batches.of_image(image, views, seed=seed)
    name = tiles.printable(os.path.basename(path), 40)
    return steps_sheet.figure(config, first, 0, data=name, where=where)
