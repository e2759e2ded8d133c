"""A random sample of one split, for figures that need no more."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_simclr.data.sources import folder
from tf_simclr.data.sources.protocol import Source
from tf_simclr.data.sources.wrapped import WrappedSource

# A data set of TFDS can only be read from its beginning. TFDS shuffles examples when it prepares
# them, so the first ones are of all classes.
MAX_READ = 100_000


def choose_positions(
    source: Source, split: str, count: int, *, seed: int = 0, wanted: Sequence[int] = ()
) -> list[int]:
    """Chooses examples of a split, the same for the same arguments.

    Args:
      source: the data set.
      split: the split.
      count: number of examples to choose; all of the split, if it has no more.
      seed: seed of the choice.
      wanted: positions to choose in any case.

    Returns:
      Increasing positions. They are random among the first 100,000 examples. A folder's split is
      already shuffled, so its first examples are chosen: no other file has to be read.
    """
    total = source.num_examples(split)
    if total <= count:
        return list(range(total))
    if source.name == folder.FOLDER:
        chosen = np.arange(count)
    else:
        order = np.random.default_rng(seed).permutation(min(total, MAX_READ))
        chosen = order[:count]
    return sorted({*chosen.tolist(), *wanted})


class SelectedSource(WrappedSource):
    """A Source that limits one split to some of its examples. Other splits do not change."""

    def __init__(self, source: Source, split: str, positions: Sequence[int]):
        """Limits the split.

        Args:
          source: the data set.
          split: the split.
          positions: increasing positions of the examples to keep.
        """
        super().__init__(source)
        self._split, self._positions = split, np.asarray(positions, np.int64)

    def num_examples(self, split: str, *, flag: str = "split") -> int:
        if split == self._split:
            return len(self._positions)
        return super().num_examples(split, flag=flag)

    def part_of_split(self, split: str, num_parts: int, index: int, *, flag: str = "split") -> str:
        assert split != self._split or num_parts == 1, "one process reads a sample"
        return super().part_of_split(split, num_parts, index, flag=flag)

    def example_names(self, split: str, positions: Sequence[int]) -> list[str]:
        if split == self._split:
            positions = self._positions[list(positions)].tolist()
        return super().example_names(split, positions)

    def encoded_examples(
        self,
        split: str,
        *,
        shuffle_files: bool = False,
        seed: int | tf.Tensor | None = None,
        with_id: bool = False,
    ) -> tf.data.Dataset:
        """Reads a split once; the limited split in its order, up to the last example to keep."""
        dataset = super().encoded_examples(
            split, shuffle_files=shuffle_files, seed=seed, with_id=with_id
        )
        if split != self._split:
            return dataset
        assert not shuffle_files, "positions are those of the order without shuffling"
        kept = np.zeros(int(self._positions.max(initial=-1)) + 1, bool)
        kept[self._positions] = True
        dataset = dataset.take(len(kept))
        if kept.all():
            return dataset
        dataset = dataset.enumerate().filter(lambda i, _: tf.gather(tf.constant(kept), i))
        return dataset.map(lambda _, example: example)
