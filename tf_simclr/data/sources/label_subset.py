"""A share of the labelled examples, the same of every class: fine-tuning on few labels.

TFDS has such subsets of ImageNet (imagenet2012_subset) and slices of anything (train[:1%]); slices
take the classes as they come, which with few labels can leave a class out.
"""

import numpy as np
import tensorflow as tf

from tf_simclr.console import progress
from tf_simclr.data.sources import fingerprint
from tf_simclr.data.sources.tfds_source import Source
from tf_simclr.errors import ConfigError

_ALL_HASHES = 2**63 - 1


class ClassBalancedSubset:
    """A Source of whose one split only some examples are left; all others are as they were.

    Which ones is a function of the data set, the split, fraction and seed alone. Reading still goes
    through the whole split.
    """

    def __init__(self, source: Source, *, split: str, fraction: float, seed: int, flag: str):
        """Chooses, which takes one pass over the split.

        Args:
          source: with labels.
          split: that is to be limited.
          fraction: share of every class that is left, rounded, but at least one example of each.
            Examples without a label (-1) are left out.
          seed: of the choice.
          flag: name of the flag that holds the split, for messages.

        Raises:
          ConfigError: the data set has no labels, there is no such split, or it holds examples
            twice.
        """
        if source.num_classes is None:
            raise ConfigError(
                f"label_fraction must be 1 with dataset {source.name}, which has no class labels, "
                f"got {fraction}; take a part of it by --{flag}='train[:10%]'"
            )
        self.name = source.name
        self.num_classes = source.num_classes
        self.class_names = source.class_names
        self.image_shape = source.image_shape
        self.decode, self.decode_boxes = source.decode, source.decode_boxes
        self._source = source
        hashes, labels = self._read(split, flag=flag)
        rng = np.random.default_rng(seed)
        chosen = []
        if (labels < 0).all():
            raise ConfigError(
                f"label_fraction must be 1 with --{flag}={split}, in which no example of "
                f"{source.name} has a label, got {fraction}: name another split"
            )
        for label in np.unique(labels[labels >= 0]):
            own = np.sort(hashes[labels == label])  # whatever the order of the files
            count = max(1, round(fraction * len(own)))
            chosen.append(rng.choice(own, count, replace=False))
        self._chosen = np.sort(np.concatenate(chosen))
        self._choice = (split, fraction, seed)
        self._counts = {split: len(self._chosen)}

    def fingerprint(self) -> int:
        """A number that changes with the data set and with what is left of it (`fingerprint`)."""
        return fingerprint.digest([self._source.fingerprint(), self._choice])

    def num_examples(self, split: str, *, flag: str = "split") -> int:
        """Like Source.num_examples; of the limited split what is left of it."""
        if split in self._counts:
            return self._counts[split]
        return self._source.num_examples(split, flag=flag)

    def part(self, split: str, num_parts: int, index: int, *, flag: str = "split") -> str:
        """Like Source.part. Parts of the limited split differ in size by more than one.

        Raises:
          ConfigError: nothing is left in this part; or parts are to be evaluated, which must be of
            one size.
        """
        if split in self._counts and num_parts > 1 and flag == "eval_split":
            raise ConfigError(
                f"eval_split must not be {split!r}, which label_fraction limits, with several "
                "input pipelines: name another split, or evaluate on one machine by --mode=eval"
            )
        part = self._source.part(split, num_parts, index, flag=flag)
        if split in self._counts and part not in self._counts:
            hashes, _ = self._read(part, flag=flag)
            self._counts[part] = int(np.isin(hashes, self._chosen).sum())
            if not self._counts[part]:
                raise ConfigError(
                    f"label_fraction leaves nothing of --{flag}={split} for input pipeline {index} "
                    f"of {num_parts}: raise it or use fewer workers"
                )
        return part

    def encoded_examples(
        self,
        split: str,
        *,
        shuffle_files: bool = False,
        seed: int | tf.Tensor | None = None,
        with_id: bool = False,
    ) -> tf.data.Dataset:
        """Like Source.encoded_examples."""
        if split not in self._counts:
            return self._source.encoded_examples(
                split, shuffle_files=shuffle_files, seed=seed, with_id=with_id
            )
        dataset = self._source.encoded_examples(
            split, shuffle_files=shuffle_files, seed=seed, with_id=True
        ).filter(self._is_chosen)
        if with_id:
            return dataset
        return dataset.map(lambda example: {k: v for k, v in example.items() if k != "id"})

    def _is_chosen(self, example: dict[str, tf.Tensor]) -> tf.Tensor:
        chosen, found = tf.constant(self._chosen), _hash(example["id"])
        place = tf.minimum(tf.searchsorted(chosen, found[None])[0], len(self._chosen) - 1)
        return chosen[place] == found

    def _read(self, split: str, *, flag: str) -> tuple[np.ndarray, np.ndarray]:
        """Hashes of the examples' ids and labels, int64 (n,) each."""
        total = self._source.num_examples(split, flag=flag)
        dataset = self._source.encoded_examples(split, with_id=True)
        # Without the images, of which a batch may not fit in memory.
        dataset = dataset.map(lambda example: (_hash(example["id"]), example["label"])).batch(1024)
        parts, bar = [], progress(total=total, desc=f"labels of {split}", unit="image")
        with bar:
            for hashes, labels in dataset.as_numpy_iterator():
                parts.append((hashes, labels))
                bar.update(len(labels))
        hashes, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
        if len(np.unique(hashes)) < total:
            raise ConfigError(
                f"label_fraction must be 1 with --{flag}={split}, which holds examples twice: name "
                "each of them once"
            )
        return hashes, labels


def _hash(example_id: tf.Tensor) -> tf.Tensor:
    return tf.strings.to_hash_bucket_fast(example_id, _ALL_HASHES)
