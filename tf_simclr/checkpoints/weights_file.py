"""Finds and opens a file of weights, in any format that formats/ reads."""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from tf_simclr import files
from tf_simclr.checkpoints import about_file, runnable_file
from tf_simclr.checkpoints.formats.keras import keras_file
from tf_simclr.checkpoints.formats.pytorch import pytorch_file
from tf_simclr.checkpoints.formats.stored import Stored
from tf_simclr.checkpoints.formats.tensorflow import saved_model, tf_checkpoint
from tf_simclr.errors import ConfigError, one_line

# The exceptions of the readers for truncated or damaged files.
READ_ERRORS = (tf.errors.OpError, RuntimeError, ValueError, IndexError, DecodeError, OSError)
# The formats that are one file. Each has matches(path) and open(path).
FILE_FORMATS: tuple = (keras_file, pytorch_file)
_CHECKPOINT_FILES = re.compile(r"\.(index|data-\d{5}-of-\d{5})$")


def find(path: str) -> str:
    """Finds the weights that a path names.

    Args:
      path: a checkpoint's prefix or one of its files, a directory of checkpoints (the latest is
        used), a SavedModel, a file in another format, or the directory of one such file.

    Returns:
      The prefix of a checkpoint, or the path of a file.

    Raises:
      ConfigError: there are no weights, or several files of them.
    """
    prefix = _CHECKPOINT_FILES.sub("", path)
    if tf_checkpoint.matches(prefix):
        return prefix
    if tf.io.gfile.isdir(path):
        return _find_in(path)
    if not tf.io.gfile.exists(path):
        raise ConfigError(
            f"checkpoint {path!r} does not exist: give a prefix such as DIR/ckpt-1000, a "
            "model_dir, the directory of a SavedModel, or a file of weights"
        )
    if name := runnable_file.name_of(path):
        raise ConfigError(
            f"checkpoint {path!r} is {name}, which only --mode=predict can use: give a checkpoint"
        )
    if not _is_weights_file(path):
        raise ConfigError(f"checkpoint {path!r} is not a file of weights: {KNOWN_FORMATS}")
    return path


KNOWN_FORMATS = "docs/formats.md lists the formats that can be read"


def _find_in(directory: str) -> str:
    if latest := _listed_latest(directory):
        return latest
    # The checkpoints were copied without the file `checkpoint`, which lists them, or it is stale.
    if indices := tf.io.gfile.glob(os.path.join(directory, "*-*.index")):
        return max(indices, key=_step).removesuffix(".index")
    saved = os.path.join(directory, tf_checkpoint.VARIABLES)
    if tf_checkpoint.matches(saved):
        return saved
    paths = [os.path.join(directory, name) for name in sorted(tf.io.gfile.listdir(directory))]
    weights_files = [path for path in paths if _is_weights_file(path)]
    if len(weights_files) == 1:
        return weights_files[0]
    if weights_files:
        raise ConfigError(
            f"checkpoint {directory!r} holds {len(weights_files)} files of weights: name one, such "
            f"as {weights_files[0]!r}"
        )
    raise ConfigError(
        f"checkpoint {directory!r} is a directory without a checkpoint, a SavedModel or a file of "
        "weights: give another, or name an ONNX or TFLite file itself"
    )


def _listed_latest(directory: str) -> str | None:
    """Returns the latest checkpoint by the file `checkpoint`, which is untrusted.

    Checkpoints elsewhere do not count: the directory was copied, or the list leads astray.
    """
    try:
        latest = tf.train.latest_checkpoint(directory)
    except READ_ERRORS:
        return None
    if latest and not files.is_url(directory):
        folder = os.path.realpath(os.path.dirname(latest))
        return latest if folder == os.path.realpath(directory) else None
    return latest


def _step(index: str) -> int:
    """Returns 42 for DIR/ckpt-42.index, and -1 for a name without a number."""
    number = index.removesuffix(".index").rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def _is_weights_file(path: str) -> bool:
    # Only TensorFlow's own formats can be read from a URL.
    if files.is_url(path) or not os.path.isfile(path):
        return False
    return any(format.matches(path) for format in FILE_FORMATS)


def step_of(found: str) -> int | None:
    """Returns the training step in the name of one of our checkpoints or SavedModels.

    Args:
      found: a path that `find` has returned.
    """
    directory = os.path.dirname(os.path.dirname(found))
    name = os.path.basename(directory if saved_model.is_saved_model(directory) else found)
    match = re.fullmatch(r"(?:ckpt-)?(\d{1,18})", name)
    return int(match[1]) if match else None


def about_directory(found: str) -> str:
    """Returns the directory of the about.json that belongs to weights.

    Args:
      found: a path that `find` has returned.
    """
    directory = os.path.dirname(found)
    parent = os.path.dirname(directory)
    if saved_model.is_saved_model(parent):
        return os.path.join(parent, saved_model.ASSETS)
    return directory


def open_weights(path: str, *, prefix: str = "") -> Stored:
    """Opens the weights that a path names (`find`).

    Args:
      path: the path.
      prefix: the prefix of a network's names in a PyTorch file that contains several networks.

    Raises:
      ConfigError: there is no such file, it is damaged, or its variables have unknown names or do
        not hold floating-point numbers.
    """
    found = find(path)
    with _read_errors_in_one_line(path):
        stored = _open(found, prefix)
    network = about_file.read_about(about_directory(found)).network

    def read(name: str) -> np.ndarray:
        with _read_errors_in_one_line(path):
            return stored.read(name)

    return dataclasses.replace(stored, read=read, settings={**network, **stored.settings})


def _open(found: str, prefix: str) -> Stored:
    is_checkpoint = tf_checkpoint.matches(found)
    format = next((f for f in FILE_FORMATS if not is_checkpoint and f.matches(found)), None)
    if format is pytorch_file:
        return pytorch_file.open(found, prefix)
    if prefix:
        raise ConfigError(f"prefix is for PyTorch files, and {found!r} is not one: leave it out")
    return format.open(found) if format else tf_checkpoint.open(found)


@contextlib.contextmanager
def _read_errors_in_one_line(path: str) -> Iterator[None]:
    try:
        yield
    except ConfigError:
        raise
    except (*READ_ERRORS, MemoryError) as error:
        raise ConfigError(
            f"checkpoint {path!r} cannot be read ({one_line(error)}): give another"
        ) from error
