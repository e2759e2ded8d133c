"""Extracts features once and keeps them in a folder (`feature_files`), which may be remote."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable

import tensorflow as tf

from tf_simclr import files
from tf_simclr.probes import feature_files
from tf_simclr.probes.feature_files import FeatureWriter
from tf_simclr.probes.features import Features


def cached(
    directory: str,
    key: str,
    make: Callable[[FeatureWriter], Features],
    *,
    num_examples: int,
    batch_size: int,
) -> tuple[Features, bool]:
    """Maps the features that are stored under a key, or extracts and stores them.

    A remote file cannot be mapped. If the directory is a URL, the features are written to a
    temporary folder and copied to the directory, or from there; an interrupted extraction begins
    again.

    Args:
      directory: folder of the cache; created if it does not exist.
      key: text with everything that the features depend on.
      make: appends the batches from writer.num_batches on, and returns writer.finish().
      num_examples: number of examples of the split.
      batch_size: number of examples of a batch.

    Returns:
      The features, and whether they come from the cache. A folder that is damaged or belongs to
      another key is replaced.
    """
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    remote = os.path.join(directory, name) if files.is_url(directory) else None
    folder = os.path.join(_temporary_folder() if remote else directory, name)
    with contextlib.suppress(*feature_files.DAMAGED, tf.errors.OpError):
        if remote:
            _copy(remote, folder)
        return feature_files.map_folder(folder, key), True
    writer = FeatureWriter(folder, key, num_examples=num_examples, batch_size=batch_size)
    with contextlib.closing(writer):
        features = make(writer)
    if remote:
        _copy(folder, remote)
    return features, False


_temporary_folders: list[tempfile.TemporaryDirectory] = []  # removed when the process ends


def _temporary_folder() -> str:
    _temporary_folders.append(tempfile.TemporaryDirectory(prefix="features_"))
    return _temporary_folders[-1].name


def _copy(source: str, target: str) -> None:
    """Copies the files of a folder, state.json last: without it a folder is damaged."""
    tf.io.gfile.makedirs(target)
    for name in sorted(tf.io.gfile.listdir(source), key=lambda name: name == feature_files.STATE):
        tf.io.gfile.copy(os.path.join(source, name), os.path.join(target, name), overwrite=True)
