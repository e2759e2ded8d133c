"""Small text files that somebody else may have written, on this machine or behind a URL.

A file is read up to a limit and parsed as data. What is wrong with it becomes a ConfigError of one
line that names the file.
"""

import contextlib
import json
import os
import re
import shutil
from typing import Any

from tf_simclr.errors import ConfigError, one_line

MAX_BYTES = 2**20


def is_url(path: str) -> bool:
    """Returns whether TensorFlow's file system must read a path, as in gs://bucket/file."""
    return re.match(r"\w+://", path) is not None


def open_url(path: str):
    """Opens a remote file. TensorFlow is imported only here, where a URL is named."""
    import tensorflow as tf

    return tf.io.gfile.GFile(path)


def is_file(path: str) -> bool:
    """Returns whether there is a file.

    Raises:
      ConfigError: the remote file system cannot be asked.
    """
    if not is_url(path):
        return os.path.isfile(path)
    import tensorflow as tf

    try:
        return tf.io.gfile.exists(path)
    except tf.errors.OpError as error:
        raise ConfigError(f"cannot look up {path}: {one_line(error)}") from None


def read_text(path: str) -> str:
    """Reads a UTF-8 file of at most MAX_BYTES.

    Raises:
      ConfigError: it is larger, it is not text, or it cannot be read.
    """
    try:
        with contextlib.closing(open_url(path) if is_url(path) else open(path, "rb")) as file:
            content = file.read(MAX_BYTES + 1)
        if isinstance(content, bytes):
            content = content.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text: restore it or remove it") from None
    except Exception as error:  # TensorFlow's errors are not imported for a local file
        raise ConfigError(f"{path} cannot be read: {one_line(error)}") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES} bytes: restore it or remove it")
    return content


def _no_constant(name: str):
    raise ValueError(f"{name} is not a finite number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{repeated!r} is there twice")
    return found


def parse_json_object(text: str, path: str) -> dict[str, Any]:
    """Parses a JSON object, without NaN, Infinity and repeated names.

    Args:
      path: file that the text is from, for the message.

    Raises:
      ConfigError: the text is anything else.
    """
    try:
        found = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} is not valid JSON ({one_line(error)}): restore it or remove it"
        ) from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path} is not a JSON object: restore it or remove it")
    return found


def read_json_object(path: str) -> dict[str, Any]:
    """Reads a JSON object from a file (`read_text`, `parse_json_object`)."""
    return parse_json_object(read_text(path), path)


def write_text(path: str, content: str) -> None:
    """Writes a text file. A reader sees the old file or the complete new one, never a part."""
    import tensorflow as tf

    unfinished = path + ".unfinished"
    with tf.io.gfile.GFile(unfinished, "w") as file:
        file.write(content)
    tf.io.gfile.rename(unfinished, path, overwrite=True)


def remove(path: str):
    """Removes a file or a directory; of a symbolic link the link, and not what it leads to."""
    if not is_url(path):
        is_folder = os.path.isdir(path) and not os.path.islink(path)
        (shutil.rmtree if is_folder else os.remove)(path)
        return
    import tensorflow as tf

    (tf.io.gfile.rmtree if tf.io.gfile.isdir(path) else tf.io.gfile.remove)(path)
