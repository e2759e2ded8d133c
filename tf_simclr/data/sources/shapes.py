"""Shapes: a small labeled data set that is drawn here, so it needs no download.

Each image of 32x32 pixels shows a piece of wrapping paper, printed all over with one of ten shapes.
The shape is the class and the main thing that two crops share. Contrastive learning can find it
because every crop shows whole shapes.

All other properties are independent of the class: the positions of the shapes, the angle and the
spacing of their rows, and the rotation, stretch and size of each shape. All images have the same
colors and the same amount of ink.

Accuracy on the 2,000 test images (chance: 10%):

- 11% for a linear classifier of raw pixels. By raw pixels, 18% of the seven nearest training images
  have the correct class. Both compare the same positions in different images, where pixels are
  random. Images are close if their shapes happen to overlap.
- 10% for the mean of the colors, 34% for their mean and deviation. A longer outline has more
  half-covered pixels, so pixel statistics carry some class information.
- 25% for a linear classifier on an untrained encoder, which sees outlines and corners.
- 86 to 96%, depending on the seed, for a linear classifier on the encoder that the demo pretrains.
  70 to 86% of the seven nearest images have the correct class.

Each image depends only on its split and its index.
"""

import contextlib
import io
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tf_simclr.console import progress
from tf_simclr.data.sources.shapes_drawing import CLASS_NAMES, SIZE, draw

NUM_TRAIN = 10_000
NUM_TEST = 2_000

_SEEDS = {"train": 1, "test": 2}


def example(split: str, index: int) -> tuple[np.ndarray, int]:
    """Draws the index-th example of a split; classes take turns, so each split is balanced.

    Args:
      split: "train" or "test".
      index: at least 0; the builder takes the first NUM_TRAIN or NUM_TEST.

    Returns:
      (image uint8 (32, 32, 3), label int in [0, 10)).

    Raises:
      ValueError: unknown split.
    """
    if split not in _SEEDS:
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    label = index % len(CLASS_NAMES)
    return draw(label, np.random.Generator(np.random.PCG64([_SEEDS[split], index]))), label


class _LocalInfo(tfds.core.DatasetInfo):
    """A DatasetInfo that is not looked up in Google's bucket.

    TFDS asks gs://tfds-data about every unprepared builder, and without a network the cloud client
    retries for a long time. This data set is not in that bucket.
    """

    def initialize_from_bucket(self) -> None:
        """Does nothing."""


class Shapes(tfds.core.GeneratorBasedBuilder):
    """The TFDS builder "shapes": image uint8 (32, 32, 3) as PNG, label in [0, 10).

    Splits: train (10,000) and test (2,000), each balanced over CLASS_NAMES. Prepare it with
    `prepare`, or by download_and_prepare with try_download_gcs=False.
    """

    name = "shapes"
    VERSION = tfds.core.Version("2.0.0")
    # Nothing is downloaded. None stops TFDS from looking for checksums, which needs the package
    # importlib_resources on Python 3.12.
    url_infos = None
    on_image_drawn: Callable[[], object] = staticmethod(lambda: None)  # called after each image

    def _info(self) -> tfds.core.DatasetInfo:
        return _LocalInfo(
            builder=self,
            description="Wrapping paper printed all over with one of ten shapes.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(SIZE, SIZE, 3), dtype=np.uint8, encoding_format="png"
                    ),
                    "label": tfds.features.ClassLabel(names=CLASS_NAMES),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager  # nothing to download
        return {
            "train": self._generate_examples("train", NUM_TRAIN),
            "test": self._generate_examples("test", NUM_TEST),
        }

    def _generate_examples(self, split: str, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(count):
            image, label = example(split, index)
            self.on_image_drawn()
            yield index, {"image": image, "label": label}


def prepare(data_dir: str | os.PathLike | None = None) -> Shapes:
    """Returns the builder, after drawing and writing the data set if it is not there yet.

    Needs no network. TFDS writes into a temporary folder and renames it at the end, so an
    interrupted process leaves no incomplete data set.

    Args:
      data_dir: the TFDS data folder; None is TFDS's own default (TFDS_DATA_DIR, or
        ~/tensorflow_datasets).

    Returns:
      A prepared builder, ready for as_dataset.

    Raises:
      OSError: the data set cannot be written.
    """
    builder = Shapes(data_dir=data_dir)
    if builder.is_prepared():
        return builder
    count = NUM_TRAIN + NUM_TEST
    print(f"Drawing the shapes data set ({count:,} images) ...", flush=True)
    start = time.monotonic()
    bar = progress(total=count, desc="drawing", unit="image")
    builder.on_image_drawn = bar.update
    try:
        # TFDS's progress bars and banners say "download", although nothing is downloaded.
        with (
            bar,
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False)
            )
    except OSError:
        # Another process may have finished the same data set first; its files are the same.
        builder = Shapes(data_dir=data_dir)
        if not builder.is_prepared():
            raise
    print(f"Drawn in {time.monotonic() - start:.0f} s.", flush=True)
    return builder
