"""Keeps TensorBoard event files free of duplicate steps after a restart.

Summaries are written during training, so the curves can be watched. A killed run resumes from its
last checkpoint, and writes the steps after that checkpoint again. So `drop` removes the old entries
of these steps before the new ones are written.

An event file is a sequence of records: the length in 8 bytes, its checksum in 4, the event, and the
event's checksum in 4. Records are copied unchanged.
"""

import math
import os
import struct
from collections.abc import Callable, Iterator

import tensorflow as tf
from google.protobuf.message import DecodeError

from tf_simclr import files
from tf_simclr.errors import ConfigError, one_line

_FILE_PREFIX = "events.out.tfevents."
_UNFINISHED = "summaries.unfinished"  # TensorBoard reads every file with tfevents in its name
# We never write longer records. The limit also bounds the memory that a damaged or hostile file can
# request.
_MAX_RECORD_BYTES = 2**26


def drop_training_after(directory: str, step: int) -> None:
    """Removes the training summaries after a step from a run's event files.

    Args:
      directory: the run's model_dir.
      step: step at which the run resumes.
    """
    drop(directory, lambda event: event.step > step and _has_tag(event, _of_training))


def drop(directory: str, is_stale: Callable[[tf.compat.v1.Event], bool]) -> None:
    """Removes events from all event files of a directory. No writer may have the files open.

    Files without stale events are untouched. Files with only stale events are deleted. Other files
    are rewritten next to the original and then renamed, so a crash loses nothing. Data after a
    damaged record is dropped; readers stop there anyway.

    Args:
      directory: the directory of the event files.
      is_stale: returns whether to remove an event.

    Raises:
      ConfigError: a file cannot be read or written. The file is then unchanged.
    """
    for path in _event_files(directory):
        try:
            if any(is_stale(event) for _, event in _records(path)):
                _rewrite(path, is_stale)
        except (OSError, tf.errors.OpError) as error:
            raise ConfigError(
                f"model_dir: summaries of repeated steps cannot be removed from {path!r} "
                f"({one_line(error)}): free enough space for a copy of the file, or move it away"
            ) from error


def _rewrite(path: str, is_stale: Callable[[tf.compat.v1.Event], bool]):
    unfinished = os.path.join(os.path.dirname(path), _UNFINISHED)
    has_summaries = False
    try:
        with tf.io.gfile.GFile(unfinished, "wb") as file:
            for record, event in _records(path):
                if not is_stale(event):
                    file.write(record)
                    has_summaries |= not event.HasField("file_version")
    except (OSError, tf.errors.OpError):
        if tf.io.gfile.exists(unfinished):
            files.remove(unfinished)
        raise
    if has_summaries:
        tf.io.gfile.rename(unfinished, path, overwrite=True)
    else:
        files.remove(path)
        files.remove(unfinished)


class EvalSummaries:
    """Writes the summaries of evaluations. A repeated evaluation replaces the old entries."""

    def __init__(self, directory: str):
        """Stores the directory. Files are opened on the first write.

        Args:
          directory: directory of the event files; no other process may write to it.
        """
        self._directory = directory
        self._steps: set[int] | None = None  # steps already in the files; None before reading them
        self._writer: tf.summary.SummaryWriter | None = None

    def write(self, results: dict[str, float], *, step: int) -> None:
        """Writes {tag: value} of the evaluation at a step, and flushes the file.

        All tags begin with "eval/".
        """
        if self._steps is None:
            self._steps = {
                event.step
                for path in _event_files(self._directory)
                for _, event in _records(path)
                if _has_tag(event, _of_evaluation)
            }
        if step in self._steps:
            self.close()
            drop(
                self._directory,
                lambda event: event.step == step and _has_tag(event, _of_evaluation),
            )
        writer = self._writer = self._writer or tf.summary.create_file_writer(self._directory)
        with writer.as_default(step=step):
            for tag, value in results.items():
                tf.summary.scalar(tag, value)
        writer.flush()
        self._steps.add(step)

    def close(self) -> None:
        """Closes the event file. A later `write` opens a new one."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None


def read_scalars(directory: str) -> Iterator[tuple[int, float, dict[str, float]]]:
    """Reads the scalars in a directory's event files. The files are untrusted.

    Another process may be writing the files. A file is read up to its first damaged record. Values
    that are not finite are left out.

    Args:
      directory: a model_dir, or the directory of an evaluation in it.

    Yields:
      The step, the time in seconds since 1970, and {tag: value} of each event that has scalars, in
      the order in which they were written.

    Raises:
      ConfigError: a file cannot be read.
    """
    try:
        for path in _event_files(directory):
            for _, event in _records(path):
                values = {value.tag: _scalar(value) for value in event.summary.value}
                finite = {
                    tag: value
                    for tag, value in values.items()
                    if value is not None and math.isfinite(value)
                }
                if finite and event.step >= 0 and math.isfinite(event.wall_time):
                    yield event.step, event.wall_time, finite
    except (OSError, tf.errors.OpError) as error:
        raise ConfigError(
            f"the event files in {directory!r} cannot be read ({one_line(error)}): restore them or "
            "move them away"
        ) from error


def _scalar(value: tf.compat.v1.Summary.Value) -> float | None:
    """Returns a float scalar; None for anything else, such as images or counts of another type.

    It does not use tf.make_ndarray, because the shape in a hostile file can ask for any memory.
    """
    if value.WhichOneof("value") == "simple_value":  # TensorFlow 1
        return value.simple_value
    tensor = value.tensor
    if tensor.dtype != tf.float32.as_datatype_enum or tensor.tensor_shape.dim:
        return None
    if len(tensor.float_val) == 1:
        return tensor.float_val[0]
    if len(tensor.tensor_content) == 4:
        return struct.unpack("<f", tensor.tensor_content)[0]
    return None


def _of_training(tag: str) -> bool:
    return tag.startswith(("train/", "monitor/")) or tag in ("learning_rate", "image")


def _of_evaluation(tag: str) -> bool:
    return tag.startswith("eval/")


def _has_tag(event: tf.compat.v1.Event, is_wanted: Callable[[str], bool]) -> bool:
    return any(is_wanted(value.tag) for value in event.summary.value)


def _event_files(directory: str) -> list[str]:
    """Lists the event files in a directory; empty if it does not exist."""
    if not tf.io.gfile.isdir(directory):
        return []
    names = sorted(name for name in tf.io.gfile.listdir(directory) if name.startswith(_FILE_PREFIX))
    paths = [os.path.join(directory, name) for name in names]
    return [path for path in paths if files.is_file(path)]  # opening a pipe would block


def _records(path: str) -> Iterator[tuple[bytes, tf.compat.v1.Event]]:
    """Yields each record and its event, up to the first truncated or damaged record."""
    with tf.io.gfile.GFile(path, "rb") as file:
        while True:
            header = file.read(12)
            length = int.from_bytes(header[:8], "little")
            if len(header) < 12 or not 0 < length <= _MAX_RECORD_BYTES:
                return
            rest = file.read(length + 4)
            if len(rest) < length + 4:
                return
            try:
                event = tf.compat.v1.Event.FromString(rest[:-4])
            except DecodeError:
                return
            yield header + rest, event
