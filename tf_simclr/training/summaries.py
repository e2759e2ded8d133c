"""TensorBoard's event files: no step stands twice in them, whenever a run was killed.

Summaries are written as they come, so that curves can be watched. A run that is killed goes on from
its last checkpoint, and writes the steps after that checkpoint once more. So the first account of
them is taken out before the second is written (`drop`).

An event file is a sequence of records: the length in 8 bytes, its checksum in 4, the event, and the
event's checksum in 4. Records are copied as they are.
"""

import os
from collections.abc import Callable, Iterator

import tensorflow as tf
from google.protobuf.message import DecodeError

from tf_simclr import files
from tf_simclr.errors import ConfigError, one_line

_FILE_PREFIX = "events.out.tfevents."
_UNFINISHED = "summaries.unfinished"  # TensorBoard reads every file with tfevents in its name
# A longer record is none that we have written. It also bounds the memory that a damaged or hostile
# file can ask for.
_MAX_RECORD_BYTES = 2**26


def drop_training_after(directory: str, step: int) -> None:
    """Takes the summaries of training that come after a step out of a run's event files.

    Args:
      directory: the run's model_dir.
      step: at which the run goes on.
    """
    drop(directory, lambda event: event.step > step and _has_tag(event, _of_training))


def drop(directory: str, is_stale: Callable[[tf.compat.v1.Event], bool]) -> None:
    """Takes events out of all event files of a directory, which no writer may have open.

    A file without stale events is not touched, and one that holds nothing else is removed. The
    others are written anew beside the old file and then put in its place, so that a process that is
    killed on the way loses nothing. What follows a damaged record is left out, as no reader gets
    there.

    Raises:
      ConfigError: a file cannot be read or written; it is as it was.
    """
    for path in _event_files(directory):
        try:
            if any(is_stale(event) for _, event in _records(path)):
                _rewrite(path, is_stale)
        except (OSError, tf.errors.OpError) as error:
            raise ConfigError(
                f"model_dir: steps that come again cannot be taken out of {path!r} "
                f"({one_line(error)}): make room for a copy of it, or move it away"
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
    """The summaries of evaluations. A step that is evaluated again replaces its first account."""

    def __init__(self, directory: str):
        """Neither reads nor writes yet.

        Args:
          directory: of the event files; no other process may write to it.
        """
        self._directory = directory
        self._steps: set[int] | None = None  # that stand in the files
        self._writer: tf.summary.SummaryWriter | None = None

    def write(self, results: dict[str, float], *, step: int) -> None:
        """Writes {tag: value} of the evaluation at a step, to be seen at once.

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
        """Closes the event file; a later `write` begins another."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None


def _of_training(tag: str) -> bool:
    return tag.startswith("train/") or tag in ("learning_rate", "image")


def _of_evaluation(tag: str) -> bool:
    return tag.startswith("eval/")


def _has_tag(event: tf.compat.v1.Event, is_wanted: Callable[[str], bool]) -> bool:
    return any(is_wanted(value.tag) for value in event.summary.value)


def _event_files(directory: str) -> list[str]:
    """Paths of the event files that lie in a directory; none where there is no directory."""
    if not tf.io.gfile.isdir(directory):
        return []
    names = sorted(name for name in tf.io.gfile.listdir(directory) if name.startswith(_FILE_PREFIX))
    paths = [os.path.join(directory, name) for name in names]
    return [path for path in paths if files.is_file(path)]  # a pipe would be waited for


def _records(path: str) -> Iterator[tuple[bytes, tf.compat.v1.Event]]:
    """Yields each record and its event, up to the first that is cut short or damaged."""
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
