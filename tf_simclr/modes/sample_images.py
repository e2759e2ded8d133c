"""Reads a few real images, prepared as for evaluation: to check an export, and to quantize it."""

import os

import numpy as np
import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.data.augment import views
from tf_simclr.data.pipeline import batches
from tf_simclr.data.sources import image_range, opening
from tf_simclr.errors import ConfigError
from tf_simclr.modes import pictures


def from_files(config: Config, images: str, count: int) -> np.ndarray:
    """Reads images of a folder, a file name or a pattern: evenly spaced ones, if there are more.

    A folder may have its classes one after the other.

    Args:
      config: uses image_size, image_range and max_megapixels.
      images: the setting `images`.
      count: number of images to read; there may be fewer.

    Returns:
      float32 (n, image_size, image_size, 3) in [0, 1].

    Raises:
      ConfigError: there is no such file, or no file can be decoded.
    """
    reader = pictures.PictureReader(
        image_range.parse(config.data.image_range), config.data.max_megapixels
    )
    prepared: list[np.ndarray] = []
    paths = pictures.find(images)
    stride = max(1, len(paths) // count)
    for path in (path for start in range(stride) for path in paths[start::stride]):
        pixels, is_decoded = reader.read(os.fsencode(path))
        if is_decoded:
            view = views.evaluation_view(tf.constant(pixels), image_size=config.data.image_size)
            prepared.append(view.numpy())
        if len(prepared) == count:
            break
    if not prepared:
        raise ConfigError(
            f"images {images!r}: not one of {len(paths)} files is an image that can be decoded "
            f"({reader.summary()}): give others"
        )
    return np.stack(prepared)


def from_split(config: Config, split: str, count: int) -> np.ndarray:
    """Reads the first images of a split of the data set.

    Args:
      config: uses the section Data.
      split: the split.
      count: number of images to read; there may be fewer.

    Returns:
      float32 (n, image_size, image_size, 3) in [0, 1].

    Raises:
      ConfigError: the data set or the split cannot be opened, or no image can be decoded.
    """
    source = opening.open_data(config, quiet=True)
    batch = next(
        iter(
            batches.eval_batches(
                source,
                split=split,
                image_size=config.data.image_size,
                batch_size=count,
                strict=False,
            )
        )
    )
    images = batch.images.numpy()[batch.weights.numpy() > 0]
    if not len(images):
        raise ConfigError(
            f"dataset {config.data.dataset}: none of the first {count} images of split {split} can "
            "be decoded: give a folder with --images"
        )
    return images
