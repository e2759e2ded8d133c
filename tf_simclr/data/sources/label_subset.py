"""A class-balanced fraction of the labeled examples, for fine-tuning on few labels.

TFDS has such subsets of ImageNet (imagenet2012_subset) and slices of any data set (train[:1%]).
Slices ignore classes. With few labels they may contain no example of a class.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_simclr.console import progress
from tf_simclr.data.sources import fingerprint
from tf_simclr.data.sources.protocol import Source
from tf_simclr.data.sources.wrapped import WrappedSource
from tf_simclr.errors import ConfigError

_ALL_HASHES = 2**63 - 1


class ClassBalancedSubset(WrappedSource):
    """A Source that limits one split to a subset of its examples. Other splits do not change.

    The choice depends only on the data set, the split, the fraction and the seed. Reading the
    subset still reads the whole split.
    """

    def __init__(self, source: Source, *, split: str, fraction: float, seed: int, flag: str):
        """Chooses the examples in one pass over the split.

        Args:
          source: a data set with labels.
          split: the split to limit.
          fraction: share of each class to keep. Counts are rounded, to at least one example per
            class. Examples without a label (-1) are left out.
          seed: seed of the choice.
          flag: name of the flag that holds the split, for messages.

        Raises:
          ConfigError: the data set has no labels, the split does not exist, or it contains an
            example twice.
        """
        if source.num_classes is None:
            raise ConfigError(
                f"label_fraction must be 1 with dataset {source.name}, which has no class labels, "
                f"got {fraction}; select a part of it with --{flag}='train[:10%]'"
            )
        super().__init__(source)
        hashes, labels = self._read(split, flag=flag)
        if (labels < 0).all():
            raise ConfigError(
                f"label_fraction must be 1 with --{flag}={split}, in which no example of "
                f"{source.name} has a label, got {fraction}: use another split"
            )
        rng = np.random.default_rng(seed)
        chosen = []
        for label in np.unique(labels[labels >= 0]):
            class_hashes = np.sort(hashes[labels == label])  # independent of the order of the files
            count = max(1, round(fraction * len(class_hashes)))
            chosen.append(rng.choice(class_hashes, count, replace=False))
        self._chosen = np.sort(np.concatenate(chosen))
        self._choice = (split, fraction, seed)
        self._counts = {split: len(self._chosen)}

    def fingerprint(self) -> int:
        """Returns a number that changes with the data set and with the choice (`fingerprint`)."""
        return fingerprint.digest([super().fingerprint(), self._choice])

    def num_examples(self, split: str, *, flag: str = "split") -> int:
        """Counts the examples of a split; for the limited split, only those that are kept."""
        if split in self._counts:
            return self._counts[split]
        return super().num_examples(split, flag=flag)

    def part_of_split(self, split: str, num_parts: int, index: int, *, flag: str = "split") -> str:
        """Returns one of several parts of a split. Parts of the limited split may differ in size.

        Raises:
          ConfigError: this part has no examples; or the split is evaluated in parts, which must
            have equal sizes.
        """
        if split in self._counts and num_parts > 1 and flag == "eval_split":
            raise ConfigError(
                f"eval_split must not be {split!r}, which label_fraction limits, with several "
                "input pipelines: use another split, or evaluate on one machine with --mode=eval"
            )
        part = super().part_of_split(split, num_parts, index, flag=flag)
        if split in self._counts and part not in self._counts:
            hashes, _ = self._read(part, flag=flag)
            self._counts[part] = int(np.isin(hashes, self._chosen).sum())
            if not self._counts[part]:
                raise ConfigError(
                    f"label_fraction leaves nothing of --{flag}={split} for input pipeline {index} "
                    f"of {num_parts}: raise it or use fewer workers"
                )
        return part

    def example_names(self, split: str, positions: Sequence[int]) -> list[str]:
        """Names examples as the wrapped data set does, which has more of the limited split."""
        if split not in self._counts:
            return super().example_names(split, positions)
        hashes, _ = self._read(split, flag="split")
        kept = np.flatnonzero(np.isin(hashes, self._chosen))
        return super().example_names(split, kept[list(positions)].tolist())

    def encoded_examples(
        self,
        split: str,
        *,
        shuffle_files: bool = False,
        seed: int | tf.Tensor | None = None,
        with_id: bool = False,
    ) -> tf.data.Dataset:
        """Reads a split once; for the limited split, only the examples that are kept."""
        limited = split in self._counts
        dataset = super().encoded_examples(
            split, shuffle_files=shuffle_files, seed=seed, with_id=with_id or limited
        )
        if limited:
            dataset = dataset.filter(self._is_chosen)
        if with_id or not limited:
            return dataset
        return dataset.map(lambda example: {k: v for k, v in example.items() if k != "id"})

    def _is_chosen(self, example: dict[str, tf.Tensor]) -> tf.Tensor:
        chosen, example_hash = tf.constant(self._chosen), _hash(example["id"])
        nearest = tf.searchsorted(chosen, example_hash[None])[0]
        return chosen[tf.minimum(nearest, len(self._chosen) - 1)] == example_hash

    def _read(self, split: str, *, flag: str) -> tuple[np.ndarray, np.ndarray]:
        """Reads the hashes of the examples' ids and their labels, int64 (n,) each."""
        total = super().num_examples(split, flag=flag)
        dataset = super().encoded_examples(split, with_id=True)
        # Drop the images: a batch of them may not fit in memory.
        dataset = dataset.map(lambda example: (_hash(example["id"]), example["label"])).batch(1024)
        parts = []
        with progress(total=total, desc=f"labels of {split}", unit="image") as bar:
            for batch in dataset.as_numpy_iterator():
                parts.append(batch)
                bar.update(len(batch[1]))
        hashes, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
        if len(np.unique(hashes)) < total:
            raise ConfigError(
                f"label_fraction must be 1 with --{flag}={split}, which contains examples twice: "
                "name each example once"
            )
        return hashes, labels


def _hash(example_id: tf.Tensor) -> tf.Tensor:
    return tf.strings.to_hash_bucket_fast(example_id, _ALL_HASHES)
