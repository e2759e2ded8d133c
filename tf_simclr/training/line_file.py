"""Appends to, reads and shortens a file of lines, on this machine or at a URL such as gs://.

TensorFlow is imported for URLs only.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

from tf_simclr import files

# Longer lines come in pieces. The limit bounds the memory that a hostile file can request.
_MAX_LINE_BYTES = 2**20


def read(path: str) -> Iterator[bytes]:
    """Yields the lines of a file with their line breaks. A line of over a MiB comes in pieces.

    Another process may append meanwhile: then the last line may be incomplete, without its line
    break.

    Raises:
      OSError, or for a URL an error of TensorFlow.
    """
    rest = b""
    with contextlib.closing(_open(path, "rb")) as file:
        while chunk := file.read(_MAX_LINE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line + b"\n"
            if len(rest) > _MAX_LINE_BYTES:
                yield rest
                rest = b""
    if rest:
        yield rest


def keep(path: str, is_kept: Callable[[bytes], bool]) -> None:
    """Removes lines from a file. No writer may have it open.

    The lines that stay are written next to the file, which is then replaced, so a crash loses
    nothing.

    Args:
      path: the file.
      is_kept: returns whether a line stays.

    Raises:
      OSError, or for a URL an error of TensorFlow. The file is then unchanged.
    """
    unfinished = path + ".unfinished"
    try:
        with contextlib.closing(_open(unfinished, "wb")) as file:
            for line in read(path):
                if is_kept(line):
                    file.write(line)
    except Exception:
        if files.is_file(unfinished):
            files.remove(unfinished)
        raise
    if files.is_url(path):
        import tensorflow as tf

        tf.io.gfile.rename(unfinished, path, overwrite=True)
    else:
        os.replace(unfinished, path)


class Appender:
    """Appends lines to a file. Each line can be read as soon as `append` returns."""

    def __init__(self, path: str, header: bytes):
        """Opens the file, and creates its directory.

        Args:
          path: the file.
          header: first line of a new file, with its line break.

        Raises:
          OSError, or for a URL an error of TensorFlow.
        """
        directory = os.path.dirname(path)
        if files.is_url(path):
            import tensorflow as tf

            tf.io.gfile.makedirs(directory)
            size = tf.io.gfile.stat(path).length if tf.io.gfile.exists(path) else 0
        else:
            os.makedirs(directory, exist_ok=True)
            if os.path.exists(path) and not os.path.isfile(path):
                raise OSError("not a file")  # opening a pipe would block
            size = os.path.getsize(path) if os.path.exists(path) else 0
        self._before = _missing_before(path, size, header)
        self._file = _open(path, "ab")

    def append(self, line: bytes) -> None:
        """Appends a line with its line break.

        Raises:
          OSError, or for a URL an error of TensorFlow. Then open the file again: part of the line
            may be in it.
        """
        content, self._before = self._before + line, b""
        num_bytes = self._file.write(content)  # None for a URL
        self._file.flush()
        if num_bytes not in (None, len(content)):
            raise OSError("no space for a line")

    def close(self) -> None:
        """Closes the file. All lines are in it already, so errors do not matter."""
        with contextlib.suppress(Exception):
            self._file.close()


def _missing_before(path: str, size: int, header: bytes) -> bytes:
    """Returns what must come before the next line: the header, or the line break of a torn line."""
    if not size:
        return header
    with contextlib.closing(_open(path, "rb")) as file:
        file.seek(size - 1)
        return b"" if file.read(1) == b"\n" else b"\n"


def _open(path: str, mode: str) -> Any:
    if not files.is_url(path):
        # Without a buffer a line is one system call, so a reader rarely sees half a line.
        return open(path, mode, buffering=0 if mode == "ab" else -1)
    import tensorflow as tf

    return tf.io.gfile.GFile(path, mode)
