"""A fixed random sample of the examples of a split, to measure a network during training."""

import tensorflow as tf

from tf_simclr.data.sources.protocol import Source
from tf_simclr.data.sources.wrapped import WrappedSource


class RandomSample(WrappedSource):
    """A Source that limits one split to a random sample of its examples.

    Reading the sample reads little more than its examples. It takes the first examples in the
    order of a seed: For a folder, these are random images. For TFDS, they are examples of randomly
    ordered files. The sample depends only on the data set, the split, the sizes
    and the seed.
    """

    def __init__(self, source: Source, *, split: str, count: int, seed: int):
        """Chooses the sample; nothing is read.

        Args:
          source: the data set.
          split: the split to limit.
          count: number of examples to keep, at most those of the split.
          seed: seed of the choice.
        """
        super().__init__(source)
        self._seed = seed
        self._counts = {split: count}

    def num_examples(self, split: str, *, flag: str = "split") -> int:
        """Counts the examples of a split; for the limited split, only those that are kept."""
        return self._counts.get(split) or super().num_examples(split, flag=flag)

    def part_of_split(self, split: str, num_parts: int, index: int, *, flag: str = "split") -> str:
        """Returns one of several parts of a split. Parts of the sample differ by at most one."""
        part = super().part_of_split(split, num_parts, index, flag=flag)
        if split in self._counts and num_parts > 1:
            count, larger = divmod(self._counts[split], num_parts)
            self._counts[part] = count + (index < larger)
        return part

    def encoded_examples(
        self,
        split: str,
        *,
        shuffle_files: bool = False,
        seed: int | tf.Tensor | None = None,
        with_id: bool = False,
    ) -> tf.data.Dataset:
        """Reads a split once; for the limited split, only the sample, always in one order."""
        count = self._counts.get(split)
        if count is None:
            return super().encoded_examples(
                split, shuffle_files=shuffle_files, seed=seed, with_id=with_id
            )
        dataset = super().encoded_examples(
            split, shuffle_files=True, seed=self._seed, with_id=with_id
        )
        return dataset.take(count)
