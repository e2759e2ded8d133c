"""Writes and reads metrics.jsonl: everything that a run measures, one JSON object per line.

docs/metrics.md has the schema. The file needs no library to read. It is only ever appended to,
except that a resumed run first removes the lines of the steps that it will repeat.
"""

import dataclasses
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tf_simclr import files
from tf_simclr.errors import ConfigError, one_line
from tf_simclr.training import line_file

NAME = "metrics.jsonl"
TRAIN, MONITOR, EVAL = "train", "monitor", "eval"
_KINDS = (TRAIN, MONITOR, EVAL)
_FORMAT, _VERSION = "tf_simclr metrics", 1  # first line of the file
_MAX_BYTES = 2**26  # over 100,000 lines; bounds the memory that a hostile file can request
_MAX_STEP = 2**53  # larger integers are not exact in other readers of JSON


@dataclasses.dataclass(frozen=True)
class Record:
    """One line of metrics.jsonl.

    Attributes:
      kind: TRAIN (a summary of the steps since the last one), MONITOR or EVAL.
      step: number of steps taken.
      epoch: number of epochs seen.
      time: seconds since 1970.
      values: {tag: value}, with the tags of TensorBoard, such as "train/contrast_loss".
      spectrum: singular values of the features, the largest first, divided by the largest; only of
        kind MONITOR.
      warnings: warnings that hold at this step. A run prints only the first of each kind.
    """

    kind: str
    step: int
    epoch: float
    time: float
    values: Mapping[str, float]
    spectrum: Sequence[float] = ()
    warnings: Sequence[str] = ()


class Writer:
    """Appends records to the metrics.jsonl of a directory."""

    def __init__(self, directory: str):
        """Stores the directory. The first write creates it and opens the file.

        Args:
          directory: a model_dir, or the directory of an evaluation in it.
        """
        self._path = os.path.join(directory, NAME)
        self._appender: line_file.Appender | None = None
        self._has_failed = False

    def write(self, record: Record) -> None:
        """Appends a record and flushes the file. Values that are not finite are left out.

        If the file cannot be written, a warning is printed once and training continues, because the
        file is not needed to resume.
        """
        line = _to_line(record)
        try:
            if self._appender is None:
                header = _encode({"format": _FORMAT, "version": _VERSION})
                self._appender = line_file.Appender(self._path, header)
            self._appender.append(line)
        except Exception as error:  # OSError, or an error of TensorFlow for a URL
            self.close()
            if not self._has_failed:
                print(
                    f"{self._path} cannot be written ({one_line(error)}): it will lack figures of "
                    "this run",
                    file=sys.stderr,
                )
            self._has_failed = True

    def close(self) -> None:
        """Closes the file. A later `write` opens it again."""
        if self._appender is not None:
            self._appender.close()
        self._appender = None


def read(directory: str) -> list[Record]:
    """Reads the metrics of a run, ordered by step. The file is untrusted.

    Another process may be writing the file. Lines that are damaged or not yet complete are skipped.
    Of two records with the same kind and step, the later one counts.

    Args:
      directory: a model_dir, or the directory of an evaluation in it.

    Returns:
      The records; empty if there is no file.

    Raises:
      ConfigError: the file cannot be read, is larger than 64 MiB, or was written by a later
        version.
    """
    path = os.path.join(directory, NAME)
    if not files.is_file(path):
        return []
    records: dict[tuple[str, int], Record] = {}
    num_bytes = 0
    try:
        for line in line_file.read(path):
            num_bytes += len(line)
            if num_bytes > _MAX_BYTES:
                raise ConfigError(
                    f"{path} is larger than {_MAX_BYTES} bytes: move it away, or keep only some of "
                    "its lines"
                )
            if record := _parse(line, path):
                records.pop((record.kind, record.step), None)
                records[record.kind, record.step] = record
    except ConfigError:
        raise
    except Exception as error:  # OSError, or an error of TensorFlow for a URL
        raise ConfigError(f"{path} cannot be read: {one_line(error)}") from None
    return sorted(records.values(), key=lambda record: record.step)


def drop_after(directory: str, step: int) -> None:
    """Removes the records of training after a step, and a last line that is damaged.

    Records of evaluations stay. No writer may have the file open. The file is written anew next to
    the original and then renamed, so a crash loses nothing.

    Args:
      directory: the run's model_dir.
      step: step at which the run resumes.

    Raises:
      ConfigError: the file cannot be read or written, or was written by a later version. It is
        then unchanged.
    """
    path = os.path.join(directory, NAME)
    if not files.is_file(path):
        return

    def is_kept(line: bytes) -> bool:
        record = _parse(line, path)
        if record is None:
            return line.endswith(b"\n")
        return record.kind == EVAL or record.step <= step

    try:
        if not all(map(is_kept, line_file.read(path))):
            line_file.keep(path, is_kept)
    except ConfigError:
        raise
    except Exception as error:  # OSError, or an error of TensorFlow for a URL
        raise ConfigError(
            f"model_dir: records of repeated steps cannot be removed from {path!r} "
            f"({one_line(error)}): free enough space for a copy of the file, or move it away"
        ) from error


def _to_line(record: Record) -> bytes:
    content: dict[str, Any] = {
        "kind": record.kind,
        "step": int(record.step),
        "epoch": float(record.epoch),
        "time": round(float(record.time), 3),
        "values": {
            tag: float(value) for tag, value in record.values.items() if math.isfinite(value)
        },
    }
    if len(record.spectrum) and all(map(math.isfinite, record.spectrum)):
        content["spectrum"] = [float(value) for value in record.spectrum]
    if record.warnings:
        content["warnings"] = list(record.warnings)
    return _encode(content)


def _encode(content: dict[str, Any]) -> bytes:
    return json.dumps(content, allow_nan=False).encode() + b"\n"


def _parse(line: bytes, path: str) -> Record | None:
    """Returns the record of a line; None if it holds none.

    Raises:
      ConfigError: the line says that a later version has written the file.
    """
    try:
        content = files.parse_json_object(line.decode(), path)
    except (UnicodeDecodeError, ConfigError):
        return None
    version = content.get("version")
    if content.get("format") == _FORMAT and type(version) is int and version > _VERSION:
        raise ConfigError(
            f"{path} has version {version}, this program reads up to version {_VERSION}: update "
            "the program"
        )
    names = [field.name for field in dataclasses.fields(Record) if field.name in content]
    if not {"kind", "step", "epoch", "time", "values"} <= set(names):
        return None
    values = (content[name] for name in names)
    values = (tuple(value) if isinstance(value, list) else value for value in values)
    record = Record(**dict(zip(names, values, strict=True)))
    return record if _is_valid(record) else None


def _is_valid(record: Record) -> bool:
    """Returns whether values from a file have the types of a record."""
    return (
        record.kind in _KINDS
        and type(record.step) is int
        and 0 <= record.step <= _MAX_STEP
        and _is_number(record.epoch)
        and _is_number(record.time)
        and isinstance(record.values, dict)
        and all(_is_text(tag) and _is_number(value) for tag, value in record.values.items())
        and isinstance(record.spectrum, tuple)
        and all(map(_is_number, record.spectrum))
        and isinstance(record.warnings, tuple)
        and all(map(_is_text, record.warnings))
    )


def _is_number(value: object) -> bool:
    # `1e999` is JSON for infinity.
    return (type(value) is float and math.isfinite(value)) or (
        type(value) is int and abs(value) <= _MAX_STEP
    )


def _is_text(value: object) -> bool:
    """Returns whether a value is a text that can be printed: JSON can hold half a character."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
