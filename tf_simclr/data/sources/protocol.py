"""The interface of a data set."""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
        """Returns the name of the data set, as given to --dataset."""

    @property
    def num_classes(self) -> int | None:
        """Returns the number of classes; None if the data set is unlabeled."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Returns the class names in the order of the labels; None if unlabeled."""

    @property
    def label_note(self) -> str:
        """Explains why there are no labels although a feature looks like one; else ""."""

    @property
    def image_shape(self) -> tuple[int | None, int | None, int]:
        """Returns (height, width, channels) as stored; None for sizes that vary."""

    @property
    def splits(self) -> Mapping[str, Any]:
        """Returns {name: tfds.core.SplitInfo}."""

    @property
    def reads_in_this_process(self) -> bool:
        """Returns whether only this process, and no tf.data service, can read the files."""

    def num_examples(self, split: str, *, flag: str = "split") -> int:
        """Counts the examples of a split.

        Args:
          split: the split.
          flag: name of the flag that holds it, for the message.

        Raises:
          ConfigError: the split does not exist or is empty.
        """

    def has_one_order(self, split: str) -> bool:
        """Returns whether `encoded_examples` reads a split in the same order for every seed."""

    def num_bytes(self, split: str) -> int:
        """Returns the size of a split's files; an estimate for a part of a split.

        Only splits that have one order (`has_one_order`) have a size.
        """

    def part_of_split(self, split: str, num_parts: int, index: int, *, flag: str = "split") -> str:
        """Returns one of several parts of a split, as a split string.

        The parts are disjoint, and together they are the whole split.

        Args:
          split: the split.
          num_parts: number of parts; 1 returns the split unchanged.
          index: index of the part, from 0.
          flag: name of the flag that holds the split, for the message.

        Raises:
          ConfigError: the split or the part does not exist, or there are fewer examples than parts.
        """

    def example_names(self, split: str, positions: Sequence[int]) -> list[str]:
        """Names some examples of a split, for people.

        Args:
          split: the split.
          positions: indices into the examples of `encoded_examples` with shuffle_files=False.

        Returns:
          The file name of each, otherwise "SPLIT 17".
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

        The order depends only on the arguments.

        Args:
          split: the split.
          shuffle_files: read files (or single images) in an order given by the seed.
          seed: an integer or an int64 scalar.
          with_id: add 'id', which is the same wherever the example is read.

        Returns:
          Dataset of {'image': string (), as stored, for decode(); 'label': int64 (), UNLABELED if
          there is none; and, with with_id, 'id': string ()}.
        """

    def decode(self, encoded: tf.Tensor) -> tf.Tensor:
        """Decodes an image, string () -> uint8 (h, w, 3)."""

    def decode_boxes(
        self, encoded: tf.Tensor, draw_boxes: DrawBoxes
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Decodes the part of an image that the boxes need.

        Returns:
          uint8 (h, w, 3), the image or a part of it, and int32 (n, 4), the boxes in it.
        """

    def sample_16_bit(self) -> Iterator[np.ndarray]:
        """Yields the values of a few 16-bit images, uint16; nothing if there are none."""

    def contents(self) -> dict[str, Any]:
        """Returns properties that differ between versions of the data set, such as its sizes."""

    def fingerprint(self) -> int:
        """Returns a number that changes with the contents and class names (`fingerprint`)."""

    def keep_listing(self) -> str | None:
        """Saves the results of the slow inspection for the next start.

        Returns:
          Why they cannot be saved, in one line; None if they were saved or there are none.
        """
