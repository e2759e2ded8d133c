"""Features of a split as frozen encoders see it: extracted once, and kept in a file."""

import contextlib
import dataclasses
import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from tf_simclr.console import progress
from tf_simclr.data import errors
from tf_simclr.data.batch import EvalBatch

RAW_PIXELS = "raw_pixels"
_ARRAY = "array/"  # what the encoders' names begin with in a file
MAX_PIXELS_SIDE = 32  # of 224 pixels a side ImageNet would be 770 GB


@dataclasses.dataclass(frozen=True)
class Features:
    """A split as several encoders see it.

    Attributes:
      arrays: {encoder's name: float32 (n, d)}, and, if asked for, under "raw_pixels" the images,
        uint8 (n, h, w, 3), of at most 32 pixels a side.
      labels: (n,) class numbers.
      skipped: how many more there are in the split, which cannot be decoded.
      unlabelled: how many more there are that have no label.
    """

    arrays: dict[str, np.ndarray]
    labels: np.ndarray
    skipped: int = 0
    unlabelled: int = 0

    def images(self) -> np.ndarray:
        """The raw pixels as images, float32 (n, h, w, 3) in [0, 1]."""
        return self.matrix(RAW_PIXELS).reshape(self.arrays[RAW_PIXELS].shape)

    def matrix(self, name: str) -> np.ndarray:
        """The features of one encoder, float32 (n, d); of the pixels, in [0, 1], d = h * w * 3."""
        array = self.arrays[name]
        if array.dtype == np.uint8:
            array = array.astype(np.float32) / 255
        return array.reshape(len(self.labels), -1)


def extract(
    strategy: tf.distribute.Strategy,
    encoders: Mapping[str, Callable],
    batches,
    *,
    num_batches: int,
    with_pixels: bool,
    description: str,
) -> Features:
    """Runs encoders over a split in one pass.

    Args:
      strategy: whose replicas share the work; of one worker.
      encoders: {name: function of (images, training=False) to endpoints, of which final_avg_pool
        counts}.
      batches: distributed data set of EvalBatch.
      num_batches: how many of them there are.
      with_pixels: keep the images, too.
      description: of the progress bar.

    Returns:
      The Features of the labelled examples of weight 1, in their order.

    Raises:
      UndecodableError: there is none.
    """

    def encode(batch: EvalBatch):
        images, labels, weights, skipped = batch
        found = {
            name: encoder(images, training=False)["final_avg_pool"]
            for name, encoder in encoders.items()
        }
        if with_pixels:
            found[RAW_PIXELS] = _pixels(images)
        labelled = tf.reduce_sum(labels, axis=1)
        return found | {
            "labels": tf.argmax(labels, axis=1),
            "labelled": weights * labelled,
            "unlabelled": weights * (1.0 - labelled),
            "skipped": skipped,
        }

    @tf.function
    def encode_batch(batch):
        return strategy.run(encode, args=(batch,))

    parts, iterator = [], iter(batches)
    left_out = {"skipped": 0, "unlabelled": 0}
    for _ in progress(range(num_batches), total=num_batches, desc=description, unit="batch"):
        joined = {
            name: np.concatenate([v.numpy() for v in strategy.experimental_local_results(value)])
            for name, value in encode_batch(next(iterator)).items()
        }
        for name in left_out:
            left_out[name] += int(joined.pop(name).sum())
        labelled = joined.pop("labelled") > 0
        parts.append({name: value[labelled] for name, value in joined.items()})
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    labels = arrays.pop("labels")
    if not len(labels):
        why = "has a label" if left_out["unlabelled"] else "can be decoded"
        raise errors.UndecodableError(f"{description}: not one example {why}")
    return Features(arrays, labels, **left_out)


def _pixels(images: tf.Tensor) -> tf.Tensor:
    """float32 (n, h, w, 3) in [0, 1] -> uint8, made smaller by areas."""
    side = max(images.shape[1:3])
    if side > MAX_PIXELS_SIDE:
        images = tf.image.resize(images, [MAX_PIXELS_SIDE] * 2, method="area")
    return tf.cast(tf.round(255 * tf.clip_by_value(images, 0.0, 1.0)), tf.uint8)


def cached(directory: str, key: str, make: Callable[[], Features]) -> tuple[Features, bool]:
    """The features kept in a directory under a key, else made and kept there.

    Args:
      directory: is made if need be.
      key: names all that the features depend on.
      make: makes them.

    Returns:
      The features, and whether they come from the file. A file that is spoilt, or of another key,
      is replaced.
    """
    path = os.path.join(directory, hashlib.sha256(key.encode()).hexdigest()[:16] + ".npz")
    if tf.io.gfile.exists(path):
        with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return _read(path, key), True
    features = make()
    tf.io.gfile.makedirs(directory)
    _write(
        path + ".unfinished",
        {
            **{f"{_ARRAY}{name}": array for name, array in features.arrays.items()},
            "labels": features.labels,
            "skipped": features.skipped,
            "unlabelled": features.unlabelled,
            "key": key,
        },
    )
    tf.io.gfile.rename(path + ".unfinished", path, overwrite=True)
    return features, False


def _write(path: str, arrays: dict[str, np.ndarray]):
    if "://" not in path:
        with open(path, "wb") as file:
            np.savez(file, **arrays)
        return
    content = io.BytesIO()  # a zip file is written to and fro, which remote files are not
    np.savez(content, **arrays)
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(content.getvalue())


def _read(path: str, key: str) -> Features:
    with tf.io.gfile.GFile(path, "rb") as file:
        stored = np.load(io.BytesIO(file.read()) if "://" in path else path, allow_pickle=False)
    if str(stored["key"]) != key:
        raise ValueError("of another key")
    arrays = {n.removeprefix(_ARRAY): stored[n] for n in stored.files if n.startswith(_ARRAY)}
    return Features(arrays, stored["labels"], int(stored["skipped"]), int(stored["unlabelled"]))
