"""What the rest of the program asks of a data set."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

UNLABELED = -1  # the label of an example without a label

# (height, width), int32 () each -> int32 (n, 4): y, x, height, width in pixels.
DrawBoxes = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class Source(Protocol):
    """A data set of images: TfdsSource, FolderSource, or a WrappedSource around one of them.

    Splits are given in TFDS's slicing syntax ("train[:1%]", "train+test").
    """

    @property
    def name(self) -> str:
        """Name of the data set, as given to --dataset."""

    @property
    def num_classes(self) -> int | None:
        """Number of classes; None if the data set is unlabelled."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """One name for each class, in the order of the labels; None if unlabelled."""

    @property
    def label_note(self) -> str:
        """Why there are no labels where somebody might expect them, or ""."""

    @property
    def image_shape(self) -> tuple[int | None, int | None, int]:
        """(height, width, channels) as stored; None where it differs from image to image."""

    @property
    def splits(self) -> Mapping[str, Any]:
        """{name: tfds.core.SplitInfo}."""

    @property
    def reads_in_this_process(self) -> bool:
        """Whether only this process can read the files, and no tf.data service."""

    def num_examples(self, split: str, *, flag: str = "split") -> int:
        """Counts the examples of a split.

        Args:
          split: the split.
          flag: name of the flag that holds it, for the message.

        Raises:
          ConfigError: there is no such split, or it is empty.
        """

    def part_of_split(self, split: str, num_parts: int, index: int, *, flag: str = "split") -> str:
        """Names one of several parts of a split, as a split of its own.

        Parts are disjoint and together the whole split.

        Args:
          split: the split.
          num_parts: how many parts there are; 1 returns the split as it is.
          index: which of them, from 0.
          flag: name of the flag that holds the split, for the message.

        Raises:
          ConfigError: no such split, fewer examples than parts, or no such part.
        """

    def encoded_examples(
        self,
        split: str,
        *,
        shuffle_files: bool = False,
        seed: int | tf.Tensor | None = None,
        with_id: bool = False,
    ) -> tf.data.Dataset:
        """Reads a split once.

        The order is a function of the arguments alone.

        Args:
          split: the split.
          shuffle_files: read files (or single pictures) in an order given by the seed.
          seed: an integer or an int64 scalar.
          with_id: add 'id', a string () that names the example wherever it is read.

        Returns:
          Dataset of {'image': string (), as stored, for decode(); 'label': int64 (), UNLABELED
          where there is none}.
        """

    def decode(self, encoded: tf.Tensor) -> tf.Tensor:
        """Decodes an image, string () -> uint8 (h, w, 3)."""

    def decode_boxes(
        self, encoded: tf.Tensor, draw_boxes: DrawBoxes
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Decodes what boxes need of an image.

        Returns:
          uint8 (h, w, 3), which may be a part of the image, and int32 (n, 4), the boxes in it.
        """

    def sample_16_bit(self) -> Iterator[np.ndarray]:
        """Yields the values of a few of the 16-bit images, uint16; nothing where there are none."""

    def contents(self) -> dict[str, Any]:
        """Returns what tells one version of the data set from another, such as its sizes."""

    def fingerprint(self) -> int:
        """Returns a number that changes with the contents and class names (`fingerprint`)."""

    def keep_listing(self) -> str | None:
        """Keeps for the next start what was slow to find out when the data set was opened.

        Returns:
          Why this cannot be done, in one line; None if there is nothing to say.
        """
