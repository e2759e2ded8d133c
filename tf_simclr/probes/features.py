"""Extracts features of a split with frozen encoders."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import numpy as np
import tensorflow as tf

from tf_simclr.console import progress
from tf_simclr.data import errors
from tf_simclr.data.batch import EvalBatch
from tf_simclr.data.sources.protocol import UNLABELED
from tf_simclr.probes.blocks import Matrix

RAW_PIXELS = "raw_pixels"
UNTRAINED, PRETRAINED = "untrained", "pretrained"  # names of encoders
MAX_PIXELS_SIDE = 32  # with 224 pixels per side, the images of ImageNet would be 770 GB
# Keys of a batch's outputs that are no encoder's features: fields of Features, after a slash.
_OTHERS = _POSITIONS, _THUMBNAILS, _PREDICTIONS = "/positions", "/thumbnails", "/predictions"


@dataclasses.dataclass(frozen=True)
class Extras:
    """What `extract` extracts beside the features.

    Attributes:
      keep_unlabelled: whether to keep examples without a label.
      thumbnail_side: largest side of thumbnails in pixels; 0 for none.
      predictions_of: name of the encoder whose supervised head predicts a class; None for none.
    """

    keep_unlabelled: bool = False
    thumbnail_side: int = 0
    predictions_of: str | None = None


NO_EXTRAS = Extras()
_REASONS = ("skipped", "unlabelled")  # why an example is left out; fields of Features


@dataclasses.dataclass(frozen=True)
class Features:
    """The features of a split's labeled examples, from several encoders.

    Attributes:
      arrays: {encoder's name: float32 (n, d)}. With `with_pixels`, "raw_pixels" holds the images,
        uint8 (n, h, w, 3), at most 32 pixels per side. From `feature_files` they are memory maps,
        and large features are float16.
      labels: class indices (n,).
      skipped: number of examples left out because they cannot be decoded.
      unlabelled: number of examples without a label. They are left out, unless `keep_unlabelled`
        is set; their label is then -1.
      positions: int (n,), index of each example in the split; None if they come from a file.
      thumbnails: uint8 (n, h, w, 3), larger than the raw pixels; None if they are not wanted.
      predictions: int (n,), the supervised head's class, -1 if a logit is not finite; None if they
        are not wanted.
    """

    arrays: dict[str, np.ndarray]
    labels: np.ndarray
    skipped: int = 0
    unlabelled: int = 0
    positions: np.ndarray | None = None
    thumbnails: np.ndarray | None = None
    predictions: np.ndarray | None = None

    def images(self) -> np.ndarray:
        """Returns the raw pixels as images, float32 (n, h, w, 3) in [0, 1]."""
        return self.matrix(RAW_PIXELS).reshape(self.arrays[RAW_PIXELS].shape)

    def matrix(self, name: str) -> np.ndarray:
        """Returns the features of one encoder, float32 (n, d), in memory.

        For the raw pixels, d is h * w * 3 and the values are in [0, 1].
        """
        array = self.arrays[name]
        if array.dtype == np.uint8:
            array = array.astype(np.float32) / 255
        return array.reshape(len(self.labels), -1).astype(np.float32, copy=False)

    def blocks(self, name: str) -> Matrix:
        """Returns the same features, which are read in blocks of rows."""
        return Matrix(self.arrays[name])


class Store(Protocol):
    """Collects the features of a split batch by batch.

    Attributes:
      num_batches: number of batches that it already has; the input begins after them.
      num_kept: number of examples that were kept.
      left_out: {reason: number of examples}, with the reasons "skipped" and "unlabelled".
    """

    @property
    def num_batches(self) -> int: ...

    @property
    def num_kept(self) -> int: ...

    @property
    def left_out(self) -> dict[str, int]: ...

    def append(self, part: dict[str, np.ndarray], left_out: dict[str, int]) -> None:
        """Adds a batch: the arrays of its kept examples, and the numbers of all others."""

    def finish(self) -> Features:
        """Returns all features."""


def add_counts(total: dict[str, int], more: dict[str, int]) -> dict[str, int]:
    """Adds numbers of examples, {reason: number}, to the totals; {} is a total of 0."""
    return {reason: number + total.get(reason, 0) for reason, number in more.items()}


class MemoryStore:
    """Collects features in memory."""

    def __init__(self) -> None:
        self._parts: list[dict[str, np.ndarray]] = []
        self.left_out: dict[str, int] = {}
        self.num_kept = 0

    @property
    def num_batches(self) -> int:
        return len(self._parts)

    def append(self, part: dict[str, np.ndarray], left_out: dict[str, int]) -> None:
        self._parts.append(part)
        self.num_kept += len(part["labels"])
        self.left_out = add_counts(self.left_out, left_out)

    def finish(self) -> Features:
        names = self._parts[0]
        arrays = {name: np.concatenate([part[name] for part in self._parts]) for name in names}
        labels = arrays.pop("labels")
        others = {name[1:]: arrays.pop(name) for name in _OTHERS if name in arrays}
        counts = (self.left_out["skipped"], self.left_out["unlabelled"])
        return Features(arrays, labels, *counts, **others)


def extract(
    strategy: tf.distribute.Strategy,
    encoders: Mapping[str, Callable],
    batches: Iterable[EvalBatch],
    *,
    num_batches: int,
    with_pixels: bool,
    description: str,
    extras: Extras = NO_EXTRAS,
    store: Store | None = None,
) -> Features:
    """Runs encoders over a split in one pass.

    Args:
      strategy: the replicas share each batch; there must be a single worker.
      encoders: {name: function}. A function takes (images, training=False) and returns endpoints.
        The features are the endpoint final_avg_pool.
      batches: distributed dataset of EvalBatch, without the batches that the store already has.
      num_batches: number of batches of the split.
      with_pixels: whether to keep the images as well.
      description: text of the progress bar.
      extras: what to extract beside the features.
      store: where to collect the features; None for memory.

    Returns:
      The Features of the labeled examples with weight 1, in the order of the data set.

    Raises:
      UndecodableError: no example can be decoded, or none has a label.
    """

    @tf.function
    def encode_on_replicas(batch):
        return strategy.run(lambda b: _encode(encoders, b, with_pixels, extras), args=(batch,))

    store = store or MemoryStore()
    iterator, first, num_read = iter(batches), store.num_batches, 0
    numbers = range(first, num_batches)
    with progress(numbers, total=num_batches, initial=first, desc=description, unit="batch") as bar:
        for _ in bar:
            part = {
                name: np.concatenate(
                    [v.numpy() for v in strategy.experimental_local_results(value)]
                )
                for name, value in encode_on_replicas(next(iterator)).items()
            }
            left_out = {reason: int(part.pop(reason).sum()) for reason in _REASONS}
            is_kept = part.pop("kept") > 0
            part[_POSITIONS] = num_read + np.arange(len(is_kept))
            num_read += len(is_kept)
            store.append({name: value[is_kept] for name, value in part.items()}, left_out)
    if not store.num_kept:
        missing = "has a label" if store.left_out["unlabelled"] else "can be decoded"
        raise errors.UndecodableError(f"{description}: not one example {missing}")
    return store.finish()


def _encode(
    encoders: Mapping[str, Callable], batch: EvalBatch, with_pixels: bool, extras: Extras
) -> dict[str, tf.Tensor]:
    """Computes one replica's features, class indices and 0/1 flags (kept, skipped, ...)."""
    endpoints = {name: encoder(batch.images, training=False) for name, encoder in encoders.items()}
    outputs = {name: values["final_avg_pool"] for name, values in endpoints.items()}
    if with_pixels:
        outputs[RAW_PIXELS] = _pixels(batch.images, MAX_PIXELS_SIDE)
    if extras.thumbnail_side:
        outputs[_THUMBNAILS] = _pixels(batch.images, extras.thumbnail_side)
    if extras.predictions_of:
        logits = endpoints[extras.predictions_of]["logits_sup"]
        is_finite = tf.reduce_all(tf.math.is_finite(logits), axis=1)
        outputs[_PREDICTIONS] = tf.where(is_finite, tf.argmax(logits, axis=1), -1)
    has_label = tf.reduce_sum(batch.labels, axis=1)
    class_index = tf.argmax(batch.labels, axis=1) if batch.labels.shape[1] else 0
    return outputs | {
        "labels": tf.where(has_label > 0, class_index, UNLABELED),
        "kept": batch.weights * (1.0 if extras.keep_unlabelled else has_label),
        "unlabelled": batch.weights * (1.0 - has_label),
        "skipped": batch.skipped,
    }


def _pixels(images: tf.Tensor, max_side: int) -> tf.Tensor:
    """Converts float32 (n, h, w, 3) in [0, 1] to uint8, and shrinks large images by area."""
    side = max(images.shape[1:3])
    if side > max_side:
        images = tf.image.resize(images, [max_side] * 2, method="area")
    return tf.cast(tf.round(255 * tf.clip_by_value(images, 0.0, 1.0)), tf.uint8)
