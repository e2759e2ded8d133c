"""Base class of sources that wrap another source."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_simclr.data.sources.protocol import DrawBoxes, Source


class WrappedSource:
    """A Source that delegates to the wrapped source. Subclasses override what differs.

    Attributes:
      name: name of the data set. All attributes are as in the wrapped source.
      num_classes: number of classes, or None.
      class_names: names of the classes, or None.
      image_shape: (height or None, width or None, channels).
    """

    def __init__(self, source: Source):
        self._source = source
        self.name = source.name
        self.num_classes = source.num_classes
        self.class_names = source.class_names
        self.image_shape = source.image_shape

    @property
    def label_note(self) -> str:
        return self._source.label_note

    @property
    def splits(self) -> Mapping[str, Any]:
        return self._source.splits

    @property
    def reads_in_this_process(self) -> bool:
        return self._source.reads_in_this_process

    def num_examples(self, split: str, *, flag: str = "split") -> int:
        return self._source.num_examples(split, flag=flag)

    def has_one_order(self, split: str) -> bool:
        return self._source.has_one_order(split)

    def num_bytes(self, split: str) -> int:
        return self._source.num_bytes(split)

    def part_of_split(self, split: str, num_parts: int, index: int, *, flag: str = "split") -> str:
        return self._source.part_of_split(split, num_parts, index, flag=flag)

    def example_names(self, split: str, positions: Sequence[int]) -> list[str]:
        return self._source.example_names(split, positions)

    def encoded_examples(
        self,
        split: str,
        *,
        shuffle_files: bool = False,
        seed: int | tf.Tensor | None = None,
        with_id: bool = False,
    ) -> tf.data.Dataset:
        return self._source.encoded_examples(
            split, shuffle_files=shuffle_files, seed=seed, with_id=with_id
        )

    def decode(self, encoded: tf.Tensor) -> tf.Tensor:
        return self._source.decode(encoded)

    def decode_boxes(
        self, encoded: tf.Tensor, draw_boxes: DrawBoxes
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self._source.decode_boxes(encoded, draw_boxes)

    def sample_16_bit(self) -> Iterator[np.ndarray]:
        return self._source.sample_16_bit()

    def contents(self) -> dict[str, Any]:
        return self._source.contents()

    def fingerprint(self) -> int:
        return self._source.fingerprint()

    def keep_listing(self) -> str | None:
        return self._source.keep_listing()
