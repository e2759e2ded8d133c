"""Checks a job before anything is written: inputs, output and model."""

import hashlib
import os
from collections.abc import Sequence

import tensorflow as tf

from tf_simclr import files, preflight
from tf_simclr.checkpoints.formats.tensorflow import tf_checkpoint
from tf_simclr.config import Config
from tf_simclr.embed import parquet_rows, storage, tfrecords
from tf_simclr.embed.encoder import Encoder, ModelSettings, open_shared
from tf_simclr.embed.listing import PARQUET, TFRECORD, Shard
from tf_simclr.embed.shard_readers import Keys
from tf_simclr.errors import ConfigError, listed
from tf_simclr.modes import trained_model

_READ_SIZE = 2**24  # bytes


def check_inputs(shards: Sequence[Shard], image_key: str, name_key: str | None) -> Keys:
    """Checks that the first archive of each kind has the keys.

    Raises:
      ConfigError: there are no inputs, a key is not in the archive, or pyarrow is missing.
    """
    if not shards:
        raise ConfigError("input matches only files in --output: give other inputs")
    for kind, list_names in (
        (TFRECORD, tfrecords.feature_names),
        (PARQUET, parquet_rows.column_names),
    ):
        archives = [shard.paths[0] for shard in shards if shard.kind == kind]
        if not archives:
            continue
        if kind == PARQUET:
            parquet_rows.require_parquet()
        with storage.local_copy(archives[0]) as path:
            try:
                names = list_names(path)
            except Exception:  # a damaged file; the job lists it as left out
                continue
        for flag, key in (("image_key", image_key), ("name_key", name_key)):
            if names and key and key not in names and key.partition(".")[0] not in names:
                raise ConfigError(
                    f"{flag} {key!r} is not in {archives[0]!r}, which has {listed(names, limit=10)}"
                )
    return Keys(image_key, name_key)


def check_output(output: str, format: str) -> None:
    """Checks that files can be written below a folder.

    Raises:
      ConfigError: they cannot, or pyarrow is missing.
    """
    if format == "parquet":
        parquet_rows.require_parquet()
    if files.is_url(output):
        storage.file_systems()
        return
    if os.path.exists(output) and not os.path.isdir(output):
        raise ConfigError(f"output {output!r} is a file: give a folder")
    parent = os.path.abspath(output)
    while not os.path.exists(parent):
        parent = os.path.dirname(parent)
    if not os.access(parent, os.W_OK):
        raise ConfigError(
            f"output {output!r} cannot be written: {parent!r} is not a writable folder; choose "
            "another with --output"
        )


def open_encoder(config: Config, fixed: frozenset[str]) -> tuple[ModelSettings, Encoder]:
    """Opens the model, so that a wrong one is an error before any worker starts.

    Args:
      config: checked settings of mode=predict.
      fixed: names of the settings that the weights must not change.

    Raises:
      ConfigError: there is no such model.
    """
    preflight.check_settings(config)
    assert config.training.checkpoint, "the settings are checked"
    found = trained_model.find(config.training.checkpoint)
    settings = ModelSettings(config, found, fixed, _fingerprint(found))
    return settings, open_shared(settings)


def _fingerprint(found: str) -> str:
    """Hashes weights. The index of a checkpoint has a checksum of each variable."""
    paths = [f"{found}.index"] if tf_checkpoint.matches(found) else [found]
    if not files.is_url(found) and os.path.isdir(found):
        paths = sorted(
            os.path.join(folder, name) for folder, _, names in os.walk(found) for name in names
        )
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        with tf.io.gfile.GFile(path, "rb") as file:
            while block := file.read(_READ_SIZE):
                digest.update(block)
    return digest.hexdigest()
