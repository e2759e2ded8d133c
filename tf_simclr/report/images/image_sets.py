"""Encodes images of a split: features, thumbnails, labels and names that belong together."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_simclr.config import Config
from tf_simclr.data.sources.protocol import Source
from tf_simclr.data.sources.selection import SelectedSource, choose_positions
from tf_simclr.errors import ConfigError, did_you_mean, listed
from tf_simclr.models.simclr import SimCLR
from tf_simclr.probes.features import RAW_PIXELS, Extras, Features
from tf_simclr.training.split_features import extract_split

MAX_IMAGES = 10_000  # of a split
THUMBNAIL_SIDE = 64  # pixels


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Encoded images of a split. All arrays have the same order.

    Attributes:
      split: the split.
      total: number of examples in the split.
      features: their features, labels (-1 for none), thumbnails and predictions.
      names: names of the images.
    """

    split: str
    total: int
    features: Features
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def labels(self) -> np.ndarray:
        """Returns the class indices, int (n,), -1 for none."""
        return self.features.labels

    @property
    def thumbnails(self) -> np.ndarray:
        """Returns thumbnails, uint8 (n, h, h, 3): the raw pixels, if there are no larger ones."""
        larger = self.features.thumbnails
        return self.features.arrays[RAW_PIXELS] if larger is None else larger

    @property
    def has_labels(self) -> bool:
        """Returns whether any image has a label."""
        return bool((self.labels >= 0).any())

    def take(self, rows: np.ndarray) -> "ImageSet":
        """Returns the images with some indices, int (m,), in their order."""
        old = self.features

        def of(array: np.ndarray | None) -> np.ndarray | None:
            return None if array is None else array[rows]

        features = dataclasses.replace(
            old,
            arrays={name: array[rows] for name, array in old.arrays.items()},
            labels=old.labels[rows],
            positions=of(old.positions),
            thumbnails=of(old.thumbnails),
            predictions=of(old.predictions),
        )
        return dataclasses.replace(
            self, features=features, names=tuple(self.names[row] for row in rows)
        )

    def labeled(self) -> "ImageSet":
        """Returns the images that have a label; all of them, if none has one."""
        return self.take(np.flatnonzero(self.labels >= 0)) if self.has_labels else self

    def sample(self, count: int, *, seed: int = 0) -> np.ndarray:
        """Returns increasing indices of at most `count` random images, int (m,)."""
        if len(self) <= count:
            return np.arange(len(self))
        return np.sort(np.random.default_rng(seed).choice(len(self), count, replace=False))

    def describe(self) -> str:
        """Returns the number of images: "2,000 images", or "2,000 of 10,000 images"."""
        number = f"{len(self):,}" if len(self) == self.total else f"{len(self):,} of {self.total:,}"
        return f"{number} image{'s' * (self.total != 1)}"


def of_features(features: Features, source: Source, split: str) -> ImageSet:
    """Returns the images of features that were extracted from a split, with raw pixels.

    Args:
      features: the features, with positions (`features.extract`).
      source: the data set that they were extracted from.
      split: the split.
    """
    assert features.positions is not None, "features from a file have no positions"
    names = source.example_names(split, features.positions.tolist())
    return ImageSet(split, source.num_examples(split), features, tuple(names))


def encode(
    config: Config,
    source: Source,
    encoders: Mapping[str, SimCLR],
    split: str,
    *,
    count: int = MAX_IMAGES,
    wanted: Sequence[int] = (),
    predictions_of: str | None = None,
) -> ImageSet:
    """Encodes images of a split in one pass, on the devices of the current strategy.

    Args:
      config: checked settings: image_size, eval_batch_size and strict_data.
      source: the data set.
      encoders: {name: model}.
      split: the split.
      count: largest number of images. More are sampled (`selection.choose_positions`).
      wanted: positions in the split to encode in any case.
      predictions_of: name of the encoder whose supervised head predicts a class; None for none.

    Raises:
      UndecodableError: no image can be decoded.
    """
    total = source.num_examples(split)
    sampled = SelectedSource(source, split, choose_positions(source, split, count, wanted=wanted))
    extras = Extras(
        keep_unlabelled=True, thumbnail_side=THUMBNAIL_SIDE, predictions_of=predictions_of
    )
    size = min(config.training.eval_batch_size, sampled.num_examples(split))
    strategy = tf.distribute.get_strategy()
    size += -size % strategy.num_replicas_in_sync
    features = extract_split(
        config.replace(eval_batch_size=size),
        sampled,
        encoders,
        split,
        strategy,
        with_pixels=True,
        extras=extras,
    )
    return dataclasses.replace(of_features(features, sampled, split), total=total)


def find_positions(source: Source, split: str, names: Sequence[str]) -> list[int]:
    """Finds examples of a split by name.

    Args:
      source: the data set.
      split: the split.
      names: names of examples (`Source.example_names`), or the ends of paths.

    Returns:
      The position of each.

    Raises:
      ConfigError: there is no such example, or there are several.
    """
    if not names:
        return []
    all_names = source.example_names(split, range(source.num_examples(split)))
    number = {name: position for position, name in enumerate(all_names)}
    return [number[name] for name in _full_names(all_names, split, names)]


def full_names(images: ImageSet, names: Sequence[str]) -> list[str]:
    """Returns the complete names of images, given by the ends of their paths.

    Args:
      images: the images, with all those that the names mean (`find_positions`, `encode`).
      names: names, or the ends of paths.

    Raises:
      ConfigError: an image is missing, because it could not be decoded.
    """
    for name in names:
        if not any(_is_named(known, name) for known in images.names):
            raise ConfigError(
                f"query {name!r} is an image of split {images.split} that cannot be decoded: "
                "choose another"
            )
    return _full_names(images.names, images.split, names)


def _is_named(full_name: str, name: str) -> bool:
    return full_name == name or full_name.endswith("/" + name)


def _full_names(all_names: Sequence[str], split: str, names: Sequence[str]) -> list[str]:
    known, result = set(all_names), []
    for name in names:
        matches = [name] if name in known else [n for n in all_names if _is_named(n, name)]
        if len(matches) > 1:
            raise ConfigError(
                f"query {name!r} is the name of {len(matches)} images of split {split}: give a "
                f"path, such as {matches[0]!r}"
            )
        if not matches:
            near = did_you_mean(name, all_names[:10_000]) or (
                f": its names are {listed(map(repr, all_names))}"
            )
            raise ConfigError(f"query {name!r} is not an image of split {split}{near}")
        result.append(matches[0])
    return result


def overlap_note(source: Source, train_split: str, eval_split: str) -> str | None:
    """Returns why no neighbors can be shown, if the splits have images in common; else None."""
    if train_split == eval_split or not overlap(source, train_split, eval_split):
        return None
    return (
        f"Neighbors are left out, because train_split {train_split} and eval_split {eval_split} "
        "have images in common."
    )


def overlap(source: Source, split: str, other: str) -> bool:
    """Returns whether two splits in TFDS's slicing syntax have an example in common."""

    def terms(split: str) -> list[tuple[str, int, int]]:
        absolute = tfds.core.ReadInstruction.from_spec(split).to_absolute(source.splits)
        return [
            (
                term.splitname,
                term.from_ or 0,
                source.splits[term.splitname].num_examples if term.to is None else term.to,
            )
            for term in absolute
        ]

    return any(
        name == other_name and max(first, other_first) < min(stop, other_stop)
        for name, first, stop in terms(split)
        for other_name, other_first, other_stop in terms(other)
    )
