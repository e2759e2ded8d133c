"""Finds image files for mode=predict, reads them, and applies a model batch by batch.

Only the list of paths takes memory that grows with the number of images.
"""

import collections
import glob
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_simclr.console import progress
from tf_simclr.data.augment import views
from tf_simclr.data.pipeline import groups
from tf_simclr.data.sources import file_tree, folder_listing, image_decoding, image_files
from tf_simclr.data.sources.image_range import ImageRange
from tf_simclr.devices import distributed_data
from tf_simclr.errors import ConfigError


def find(images: str, *, flag: str = "images") -> list[str]:
    """Finds the files of a folder, a file name or a pattern, sorted by path.

    Args:
      images: the folder, file or pattern.
      flag: the name of the flag, for error messages.

    Raises:
      ConfigError: there is no such file.
    """
    if os.path.isdir(images):
        paths = list(file_tree.walk(images))
    elif os.path.isfile(images):  # its name may have brackets, which a pattern would not match
        paths = [images]
    else:
        paths = sorted(path for path in glob.glob(images, recursive=True) if os.path.isfile(path))
    if not paths:
        raise ConfigError(
            f"{flag} {images!r} matches no file: give a folder, or a pattern in quotes such as "
            f"--{flag}='pictures/**/*.jpg'"
        )
    return paths


class PictureReader:
    """Reads image files and records why some of them cannot be decoded.

    Attributes:
      problems: {path: why it cannot be decoded}.
    """

    def __init__(self, image_range: ImageRange | None, max_megapixels: int):
        """Stores the limits.

        Args:
          image_range: values of 16-bit images that become black and white; None for all values.
          max_megapixels: size of the largest image to read, in millions of pixels.
        """
        self.problems: dict[str, str] = {}
        self._image_range = image_range
        self._max_megapixels = max_megapixels
        self._limits = image_files.Limits(max_megapixels, image_range is not None)

    def read(self, path: bytes) -> tuple[np.ndarray, bool]:
        """Reads the pixels of a file.

        Returns:
          (uint8 (h, w, 3), True), or (one black pixel, False) for a file that cannot be decoded
          and for the empty path, which pads the last batch.
        """
        if not path:
            return np.zeros((1, 1, 3), np.uint8), False
        # The file is opened twice: `inspect` gives a fixed message for each kind of problem, which
        # the summary can count. The decoder below can raise any exception.
        problem = image_files.inspect(path, self._limits).complaint
        if problem is None:
            try:
                with open(path, "rb") as file:
                    content = file.read()
                pixels = image_decoding.pixels(
                    content, self._image_range, max_megapixels=self._max_megapixels
                )
                return pixels, True
            except Exception:  # Pillow's decoders can raise any exception
                problem = image_decoding.DAMAGED
        self.problems[os.fsdecode(path)] = problem
        return np.zeros((1, 1, 3), np.uint8), False

    def summary(self) -> str:
        """Counts the files by their problem, for a message."""
        return folder_listing.format_reasons(collections.Counter(self.problems.values()))


class PictureBatch(NamedTuple):
    """The outputs of a model for a batch of images.

    Attributes:
      paths: n paths.
      decoded: bool (n,), whether the image could be decoded.
      values: float32 (n, width). The rows of images that could not be decoded are undefined.
    """

    paths: list[str]
    decoded: np.ndarray
    values: np.ndarray


def compute_batches(
    strategy: tf.distribute.Strategy,
    compute: Callable[[tf.Tensor], tf.Tensor],
    paths: list[str],
    reader: PictureReader,
    *,
    image_size: int,
    batch_size: int,
) -> Iterator[PictureBatch]:
    """Applies a function to images, in the order of their paths.

    Args:
      strategy: the strategy whose replicas share each batch.
      compute: function from images, float32 (n, image_size, image_size, 3), to values (n, width).
      paths: paths of the image files.
      reader: reads the files.
      image_size: side of the images, in pixels.
      batch_size: number of images in a batch, over all replicas.

    Yields:
      A PictureBatch for each batch.
    """

    @tf.function
    def compute_on_replicas(images, decoded):
        return strategy.run(lambda i, d: (compute(i), d), args=(images, decoded))

    dataset = _dataset(paths, reader, image_size, batch_size)
    batches = distributed_data.distribute(
        strategy,
        lambda context: dataset.rebatch(
            context.get_per_replica_batch_size(batch_size), drop_remainder=True
        ),
    )
    with progress(total=len(paths), desc="predict", unit="image") as bar:
        for batch_index, (images, decoded) in enumerate(batches):
            batch_paths = paths[batch_index * batch_size : (batch_index + 1) * batch_size]
            values, decoded = (
                np.concatenate(
                    [part.numpy() for part in strategy.experimental_local_results(value)]
                )
                for value in compute_on_replicas(images, decoded)
            )
            n = len(batch_paths)
            yield PictureBatch(batch_paths, decoded[:n], values[:n])
            bar.update(n)


def _dataset(
    paths: list[str], reader: PictureReader, image_size: int, batch_size: int
) -> tf.data.Dataset:
    """Makes batches of (images (n, s, s, 3), decoded (n,)). The last batch is padded."""

    def view(path):
        image, decoded = tf.numpy_function(reader.read, [path], (tf.uint8, tf.bool), stateful=False)
        image = tf.ensure_shape(image, (None, None, 3))
        image_view = views.evaluation_view(image, image_size=image_size)
        return image_view, tf.ensure_shape(decoded, ())

    encoded = [os.fsencode(path) for path in paths]
    padding = [b""] * (-len(paths) % batch_size)  # all replicas need full batches
    dataset = tf.data.Dataset.from_tensor_slices(encoded + padding)
    dataset = dataset.map(
        tf.autograph.experimental.do_not_convert(view),
        num_parallel_calls=groups.num_cores(),
        deterministic=True,
    )
    return groups.prefetched(dataset.batch(batch_size, drop_remainder=True))
