"""Reads and writes history.json: where, when and with what a run was started, and how it ended.

A run that is interrupted and resumed has several starts, perhaps on different machines. The file
has at most MAX_STARTS of them, the last ones.
"""

import dataclasses
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Mapping
from typing import Any

from tf_simclr import __version__, files
from tf_simclr.errors import ConfigError, one_line

HISTORY = "history.json"
FORMAT, VERSION = "tf_simclr history", 1
MAX_STARTS = 100
LARGEST = 2**53
FINISHED, STOPPED, STOPPED_EARLY, DIVERGED = "finished", "stopped", "stopped early", "diverged"
REASONS = (FINISHED, STOPPED, STOPPED_EARLY, DIVERGED)


@dataclasses.dataclass(frozen=True)
class End:
    """The end of a run, or of a part of it.

    Attributes:
      reason: one of REASONS.
      step: number of steps taken.
      time: seconds since 1970.
      message: what the run printed, e.g. why it diverged.
      results: {name: value} of the figures that the run printed, such as "probe/pretrained".
    """

    reason: str
    step: int
    time: float
    message: str = ""
    results: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Start:
    """A start of a run.

    Attributes:
      step: number of steps taken before.
      total_steps: steps of the run.
      num_train: number of images in the training split.
      device: e.g. "1 GPU, NVIDIA H100 80GB HBM3".
      time: seconds since 1970.
      versions: {package: version}, also of Python.
      end: None if the run goes on, or was killed.
    """

    step: int
    total_steps: int
    num_train: int
    device: str
    time: float
    versions: Mapping[str, str]
    end: End | None = None


def versions() -> dict[str, str]:
    """Returns {package: version} of tf_simclr, TensorFlow and Keras, and the version of Python."""
    found = {"tf_simclr": __version__}
    for package in ("tensorflow", "keras"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found | {"Python": platform.python_version()}


def add_start(directory: str, *, step: int, total_steps: int, num_train: int, device: str) -> None:
    """Records a start, with the time and the versions of the packages.

    A file that cannot be read is replaced.

    Args:
      directory: model_dir.
      step: number of steps taken before.
      total_steps: steps of the run.
      num_train: number of images in the training split.
      device: description of the devices.
    """
    start = Start(step, total_steps, num_train, device, time.time(), versions())
    _write(directory, [*_read_or_empty(directory), start])


def end(
    directory: str,
    reason: str,
    *,
    step: int,
    message: object = "",
    results: Mapping[str, Any] | None = None,
) -> None:
    """Records how the last start ended. Does nothing if no start is recorded.

    Args:
      directory: model_dir.
      reason: one of REASONS.
      step: number of steps taken.
      message: what the run prints.
      results: {name: value}; only finite numbers are kept.
    """
    starts = _read_or_empty(directory)
    if not starts:
        return
    figures = {
        name: float(value)
        for name, value in (results or {}).items()
        if type(value) in (int, float) and abs(value) <= LARGEST
    }
    ended = End(reason, step, time.time(), one_line(message) if message else "", figures)
    _write(directory, [*starts[:-1], dataclasses.replace(starts[-1], end=ended)])


def _read_or_empty(directory: str) -> list[Start]:
    try:
        return read(directory)
    except ConfigError:
        return []


def _write(directory: str, starts: list[Start]) -> None:
    content = {
        "format": FORMAT,
        "version": VERSION,
        "starts": [dataclasses.asdict(start) for start in starts[-MAX_STARTS:]],
    }
    files.write_text(os.path.join(directory, HISTORY), json.dumps(content, indent=2) + "\n")


def read(directory: str) -> list[Start]:
    """Reads the starts of a run. The file is untrusted. Unknown fields are ignored.

    Returns:
      The starts, the last one last; [] if there is no file. Earlier versions did not write it.

    Raises:
      ConfigError: the file cannot be read, or a value in it has the wrong type.
    """
    path = os.path.join(directory, HISTORY)
    if not files.is_file(path):
        return []
    content = files.read_json_object(path)
    starts = content.get("starts")
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise ConfigError(f"{path} is not the history of a run (format {FORMAT!r}): remove it")
    if not isinstance(starts, list):
        raise ConfigError(f"{path}: starts must be a list: remove the file")
    return [_start(start, path) for start in starts[-MAX_STARTS:]]


def _start(content: object, path: str) -> Start:
    start: Start = _typed(Start, content, path, {"end"})
    if not all(isinstance(version, str) for version in start.versions.values()):
        raise ConfigError(f"{path}: versions must be strings: remove the file")
    ended = content.get("end") if isinstance(content, dict) else None
    if ended is None:
        return start
    last: End = _typed(End, ended, path, set())
    if last.reason not in REASONS:
        raise ConfigError(f"{path}: unknown reason {one_line(repr(last.reason))}: remove the file")
    if not all(
        type(value) in (int, float) and abs(value) <= LARGEST for value in last.results.values()
    ):
        raise ConfigError(f"{path}: results must be numbers: remove the file")
    return dataclasses.replace(start, end=last)


# The JSON types of the fields of Start and End.
_TYPES: dict[str, tuple[type, ...]] = {
    "step": (int,),
    "total_steps": (int,),
    "num_train": (int,),
    "device": (str,),
    "time": (int, float),
    "versions": (dict,),
    "reason": (str,),
    "message": (str,),
    "results": (dict,),
}


def _typed(kind: type, content: object, path: str, ignored: set[str]) -> Any:
    """Makes a dataclass of a JSON object, after checking the types of its fields."""
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a start must be an object: remove the file")
    values = {}
    for field in dataclasses.fields(kind):
        if field.name in ignored:
            continue
        value = content.get(field.name)
        # 1e999 is JSON for infinity.
        is_wrong = isinstance(value, int | float) and not 0 <= value <= LARGEST
        if type(value) not in _TYPES[field.name] or is_wrong:
            raise ConfigError(
                f"{path}: {field.name} is wrong, got {one_line(repr(value))}: remove the file"
            )
        values[field.name] = value
    return kind(**values)
