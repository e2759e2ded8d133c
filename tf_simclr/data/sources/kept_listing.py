"""Keeps a listing of a folder's files in model_dir for the next start.

Inspecting the first bytes of 200,000 files is slow, above all on a network share. A later start
only asks the system for their sizes and times (docs/input.md has measured times). A file whose size
or time has changed is inspected again.

The listing is untrusted: only entries for existing files are used, and a file with any invalid line
is ignored and rewritten.
"""

import json
import os
from typing import NamedTuple

import tensorflow as tf

from tf_simclr.data.sources import image_files
from tf_simclr.data.sources.image_files import Inspection, Limits
from tf_simclr.errors import one_line

NAME = "pictures.jsonl"
_VERSION = 1
_MAX_BYTES = 2**30  # about eight million images
_LARGEST = 2**64


class _Entry(NamedTuple):
    """One file at the time of its inspection.

    Attributes:
      mtime: time of its last change in nanoseconds.
      inode: its number in the file system.
      inspection: the result, including the file's size.
    """

    mtime: int
    inode: int
    inspection: Inspection


class InspectionCache:
    """Inspects files, and remembers the inspections of an earlier start."""

    def __init__(self, model_dir: str | None, limits: Limits, *, same_inode: bool = False):
        """Reads the listing in a directory, if there is a valid one.

        Args:
          model_dir: the run's directory; None to remember nothing.
          limits: limits of the images. A listing made with other limits is ignored.
          same_inode: whether a file must also have the same inode. Workers set it, because a
            listing by another worker may describe another copy of the file.
        """
        self._path = os.path.join(model_dir, NAME) if model_dir else None
        self._limits, self._same_inode = limits, same_inode
        self._before = _read(self._path, limits) if self._path else {}
        self._now: dict[str, _Entry] = {}

    def inspect(self, directory: str, path: str) -> Inspection:
        """Inspects a file, unless it is known and has not changed.

        Args:
          directory: data_dir.
          path: path of the file, relative to data_dir.
        """
        full_path = os.path.join(directory, path)
        try:
            status = os.stat(full_path)
        except OSError:
            return Inspection(image_files.NOT_READABLE)
        entry = self._before.get(path)
        if entry is None or not self._is_same(entry, status):
            inspection = image_files.inspect(full_path, self._limits)
            if inspection.size != status.st_size:  # being written, or not readable
                return inspection
            entry = _Entry(status.st_mtime_ns, status.st_ino, inspection)
        self._now[path] = entry
        return entry.inspection

    def _is_same(self, entry: _Entry, status: os.stat_result) -> bool:
        return (
            entry.mtime == status.st_mtime_ns
            and entry.inspection.size == status.st_size
            and (entry.inode == status.st_ino or not self._same_inode)
        )

    def save(self) -> str | None:
        """Writes the listing to model_dir, completely or not at all, if anything in it is new.

        Returns:
          Why it cannot be written, in one line; None if it was written or is unchanged.
        """
        if not self._path or self._now == self._before:
            return None
        unfinished = self._path + ".unfinished"
        try:
            with tf.io.gfile.GFile(unfinished, "w") as file:
                file.write(json.dumps(_header(self._limits)) + "\n")
                for path, entry in self._now.items():
                    row = (path, entry.mtime, entry.inode, *entry.inspection)
                    file.write(json.dumps(row) + "\n")
            tf.io.gfile.rename(unfinished, self._path, overwrite=True)
        except (OSError, tf.errors.OpError) as error:
            return (
                f"{self._path} cannot be written ({one_line(error)}): the next start inspects all "
                "files again"
            )
        self._before = self._now
        return None


def _header(limits: Limits) -> dict:
    return {"version": _VERSION, "formats": list(image_files.FORMATS), **limits._asdict()}


def _read(path: str, limits: Limits) -> dict[str, _Entry]:
    """Reads a listing, {relative path: entry}; {} if there is none or it is not valid."""
    try:
        if not tf.io.gfile.exists(path) or tf.io.gfile.stat(path).length > _MAX_BYTES:
            return {}
        with tf.io.gfile.GFile(path, "rb") as file:
            header, *lines = file.read().splitlines()
        if json.loads(header) != _header(limits):
            return {}
        complaints = image_files.complaints(limits)
        return dict(_parse(line, complaints) for line in lines)
    except (OSError, tf.errors.OpError, ValueError, RecursionError):
        return {}


def _parse(line: bytes, complaints: frozenset[str]) -> tuple[str, _Entry]:
    """Parses one line of a listing.

    Raises:
      ValueError: it is not what `save` writes.
    """
    row = json.loads(line)
    if not isinstance(row, list) or len(row) != 7:
        raise ValueError("not a row of seven")
    path, mtime, inode, complaint, is_16_bit, size, checksum = row
    numbers = (inode, size, checksum)
    if (
        type(path) is not str
        or type(mtime) is not int
        or not -_LARGEST < mtime < _LARGEST
        or any(type(number) is not int or not 0 <= number < _LARGEST for number in numbers)
        or type(is_16_bit) is not bool
        or not (complaint is None or (type(complaint) is str and complaint in complaints))
    ):
        raise ValueError("a value of a wrong type")
    return path, _Entry(mtime, inode, Inspection(complaint, is_16_bit, size, checksum))
