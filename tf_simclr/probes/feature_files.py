"""Writes features into files that are continued after an interruption, and memory-mapped.

A folder belongs to one key, a text with everything that the features depend on. It
holds one .npy file per array and state.json with the key and the number of finished examples. While
the folder is incomplete, its name ends in .unfinished. Features are float32, or float16 if they
would take more than FLOAT32_BYTES: 1.28 million times 2,048 features then take 5.2 GB.
"""

import contextlib
import dataclasses
import json
import os
import time
import urllib.parse
from typing import IO

import numpy as np

from tf_simclr import files
from tf_simclr.errors import ConfigError
from tf_simclr.probes.features import Features, add_counts

FLOAT32_BYTES = 2**30  # features that take more as float32 are kept as float16
SAVE_SECONDS = 10.0  # between two updates of state.json: the work that a crash loses
STATE = "state.json"
_LABELS = "labels"
_PREFIX = "features_"  # of the names of files with features
_MAX_FLOAT16 = float(np.finfo(np.float16).max)
# A folder with one of these is replaced. ConfigError: state.json cannot be read.
DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, ConfigError)


@dataclasses.dataclass
class _State:
    """The content of state.json.

    Attributes:
      key: what the features depend on.
      batch_size: number of examples of a batch, with the padding of the last one.
      batches: number of finished batches.
      kept: number of examples that were kept.
      left_out: {reason: number of examples}.
      names: the names of the features.
    """

    key: str
    batch_size: int
    batches: int = 0
    kept: int = 0
    left_out: dict[str, int] = dataclasses.field(default_factory=dict)
    names: list[str] = dataclasses.field(default_factory=list)


class FeatureWriter:
    """Writes features batch by batch, and goes on where an earlier writer was interrupted.

    Attributes:
      num_batches: number of batches that are finished, which the input must skip.
      num_kept: number of examples that were kept.
      left_out: {reason: number of examples}.
    """

    def __init__(self, folder: str, key: str, *, num_examples: int, batch_size: int) -> None:
        """Opens the unfinished folder, or makes a new one if it is of no use.

        Args:
          folder: path of the finished folder, on this machine.
          key: everything that the features depend on.
          num_examples: number of examples of the split; at most as many are kept.
          batch_size: number of examples of a batch.
        """
        self._folder, self._unfinished = folder, f"{folder}.unfinished"
        self._num_examples = num_examples
        self._files: dict[str, IO[bytes]] = {}
        self._saved = time.monotonic()
        state = None
        with contextlib.suppress(*DAMAGED):
            earlier = _read_state(self._unfinished, key)
            _open(self._unfinished, earlier)
            state = earlier
        if state is None or state.batch_size != batch_size:
            if os.path.lexists(self._unfinished):
                files.remove(self._unfinished)
            os.makedirs(self._unfinished)
            state = _State(key, batch_size)
        self._state = state

    @property
    def num_batches(self) -> int:
        return self._state.batches

    @property
    def num_kept(self) -> int:
        return self._state.kept

    @property
    def left_out(self) -> dict[str, int]:
        return self._state.left_out

    def append(self, part: dict[str, np.ndarray], left_out: dict[str, int]) -> None:
        """Writes the kept examples of the next batch.

        Args:
          part: "labels", int (m,), and the features by name, (m, ...). What has a name that begins
            with a slash is not written.
          left_out: {reason: number of examples of the batch that were left out}.
        """
        arrays = {name: array for name, array in part.items() if not name.startswith("/")}
        for name, array in arrays.items():
            self._write(name, array)
        state = self._state
        state.names = [name for name in arrays if name != _LABELS]
        state.left_out = add_counts(state.left_out, left_out)
        state.kept += len(part[_LABELS])
        state.batches += 1
        if time.monotonic() - self._saved >= SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Makes the finished batches last: the arrays first, then the number of batches."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        path = os.path.join(self._unfinished, STATE)
        files.write_text(path, json.dumps(dataclasses.asdict(self._state), indent=2) + "\n")
        self._saved = time.monotonic()

    def close(self) -> None:
        """Saves, and closes the files."""
        if self._files:
            self.save()
        for file in self._files.values():
            file.close()
        self._files = {}

    def finish(self) -> Features:
        """Moves the folder to its final name and returns the memory-mapped features."""
        self.close()
        if os.path.lexists(self._folder):
            files.remove(self._folder)
        os.rename(self._unfinished, self._folder)
        return _open(self._folder, self._state)

    def _write(self, name: str, array: np.ndarray) -> None:
        """Writes rows after those of the finished batches."""
        if name not in self._files:
            self._files[name] = self._open_for_writing(name, array)
        file = self._files[name]
        if array.dtype == np.float32 and self._dtype(array) == np.float16:
            is_finite = np.isfinite(array)
            array = np.where(is_finite, array.clip(-_MAX_FLOAT16, _MAX_FLOAT16), array)
        file.write(np.ascontiguousarray(array, self._dtype(array)).tobytes())

    def _open_for_writing(self, name: str, array: np.ndarray) -> IO[bytes]:
        """Opens an array's file behind the rows of the finished batches.

        The file has its full length from the beginning, and so does the array in its header. Rows
        behind the last kept example are zero, and take no space on most file systems.
        """
        path, dtype = _path(self._unfinished, name), self._dtype(array)
        shape = (self._num_examples, *array.shape[1:])
        file = open(path, "r+b" if os.path.exists(path) and self._state.kept else "w+b")
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        row_bytes = dtype.itemsize * int(np.prod(shape[1:]))
        begin = file.tell()
        file.truncate(begin + self._num_examples * row_bytes)
        file.seek(begin + self._state.kept * row_bytes)
        return file

    def _dtype(self, array: np.ndarray) -> np.dtype:
        row_bytes = array.dtype.itemsize * int(np.prod(array.shape[1:]))
        is_large = row_bytes * self._num_examples > FLOAT32_BYTES
        return np.dtype(np.float16) if array.dtype == np.float32 and is_large else array.dtype


def map_folder(folder: str, key: str) -> Features:
    """Maps the features of a finished folder. Raises one of DAMAGED if it is not this key's."""
    return _open(folder, _read_state(folder, key))


def _read_state(folder: str, key: str) -> _State:
    state = _State(**files.read_json_object(os.path.join(folder, STATE)))
    if state.key != key:
        raise ValueError("the folder belongs to another key")
    for number in (state.batch_size, state.batches, state.kept):
        if type(number) is not int or number < 0:
            raise ValueError(f"{number!r} is not a number of examples")
    return state


def _open(folder: str, state: _State) -> Features:
    """Maps the kept examples of a folder."""

    def load(name: str) -> np.ndarray:
        array = np.load(_path(folder, name), mmap_mode="r", allow_pickle=False)
        if len(array) < state.kept:
            raise ValueError(f"{name} has {len(array)} rows, fewer than {state.kept}")
        return array[: state.kept]

    arrays = {name: load(name) for name in state.names}
    counts = (int(state.left_out["skipped"]), int(state.left_out["unlabelled"]))
    return Features(arrays, np.array(load(_LABELS)), *counts)


def _path(folder: str, name: str) -> str:
    stem = name if name == _LABELS else _PREFIX + urllib.parse.quote(name, safe="")
    return os.path.join(folder, f"{stem}.npy")
