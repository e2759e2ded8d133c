"""Reads and writes small text files, on this machine or at a URL. Their content is untrusted.

A file is read up to a size limit and parsed as data. If it is not valid, a one-line ConfigError
names the file and the fault.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from typing import Any, NoReturn

from tf_simclr.errors import ConfigError, one_line

MAX_BYTES = 2**20


def is_url(path: str) -> bool:
    """Returns whether a path must be read through TensorFlow, such as gs://bucket/file."""
    return re.match(r"\w+://", path) is not None


def open_url(path: str) -> Any:
    """Opens a remote file. Imports TensorFlow only when it is called."""
    import tensorflow as tf

    return tf.io.gfile.GFile(path)


def is_file(path: str) -> bool:
    """Returns whether a file exists.

    Raises:
      ConfigError: the remote file system does not answer.
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
      ConfigError: the file is larger, is not UTF-8, or cannot be read.
    """
    try:
        with contextlib.closing(open_url(path) if is_url(path) else open(path, "rb")) as file:
            content = file.read(MAX_BYTES + 1)
        if isinstance(content, bytes):
            content = content.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text: restore it or remove it") from None
    except Exception as error:  # TensorFlow, with its error classes, may not be imported
        raise ConfigError(f"{path} cannot be read: {one_line(error)}") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES} bytes: restore it or remove it")
    return content


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a finite number")


def _reject_repeated_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{repeated!r} occurs twice")
    return values


def parse_json_object(text: str, path: str) -> dict[str, Any]:
    """Parses a JSON object. NaN, Infinity and repeated names are not allowed.

    Args:
      text: the JSON text.
      path: the file it comes from, for the error message.

    Raises:
      ConfigError: the text is not such an object.
    """
    try:
        content = json.loads(
            text, parse_constant=_reject_constant, object_pairs_hook=_reject_repeated_names
        )
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} is not valid JSON ({one_line(error)}): restore it or remove it"
        ) from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is not a JSON object: restore it or remove it")
    return content


def read_json_object(path: str) -> dict[str, Any]:
    """Reads a JSON object from a file. Raises ConfigError like the two functions above."""
    return parse_json_object(read_text(path), path)


def check_folder_of(output: str) -> None:
    """Checks that the folder that will contain an output exists and is writable.

    Raises:
      ConfigError: it does not, or is not.
    """
    folder = os.path.dirname(output.rstrip("/")) or "."
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise ConfigError(
            f"output {output!r} cannot be written: {folder!r} is not a writable folder; choose "
            "another folder with --output"
        )


def check_output(path: str, suffixes: Sequence[str] = ()) -> None:
    """Checks that an output file can be written, before anything slow.

    Args:
      path: the path of the file.
      suffixes: the suffixes it may have, in lower case; empty for any.

    Raises:
      ConfigError: it has another suffix, it is a directory, or its folder is not writable.
    """
    if suffixes and not path.lower().endswith(tuple(suffixes)):
        raise ConfigError(f"output must end in {', '.join(suffixes)}, got {path!r}")
    check_folder_of(path)
    if os.path.isdir(path):
        raise ConfigError(f"output {path!r} is a directory: give a file name")


def write_text(path: str, content: str) -> None:
    """Writes a text file in UTF-8. Readers see the old file or the complete new one."""
    write_bytes(path, content.encode())


def write_bytes(path: str, content: bytes) -> None:
    """Writes a file. Readers see the old file or the complete new one, never a part."""
    import tensorflow as tf

    unfinished = path + ".unfinished"
    with tf.io.gfile.GFile(unfinished, "wb") as file:
        file.write(content)
    tf.io.gfile.rename(unfinished, path, overwrite=True)


def remove(path: str) -> None:
    """Removes a file, a directory, or a symbolic link (but not its target)."""
    if not is_url(path):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.remove(path)
        return
    import tensorflow as tf

    (tf.io.gfile.rmtree if tf.io.gfile.isdir(path) else tf.io.gfile.remove)(path)
