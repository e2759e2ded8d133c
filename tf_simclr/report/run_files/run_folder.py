"""Reads the files of a run: settings, metrics, results and history. All of them are untrusted.

The run may be going on, so that files may be missing or incomplete. A file that cannot be used
becomes a note, and the rest is read. For a folder on this machine only old runs need TensorFlow,
for their event files.
"""

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tf_simclr import files
from tf_simclr.checkpoints import history, run_lock
from tf_simclr.checkpoints.history import DIVERGED, FINISHED, STOPPED, STOPPED_EARLY, Start
from tf_simclr.config import saved_settings
from tf_simclr.errors import ConfigError, one_line
from tf_simclr.report.run_files import event_records, folders, run_results
from tf_simclr.report.run_files.run_results import Probe
from tf_simclr.training import metrics_file
from tf_simclr.training.metrics_file import EVAL, Record

TRAINING, UNKNOWN = "training", "unknown"
STATES = (TRAINING, FINISHED, STOPPED, STOPPED_EARLY, DIVERGED, UNKNOWN)
_EVAL_FOLDER = re.compile(r"eval(?:_([A-Za-z0-9._-]{1,100}))?")
_CHECKPOINT = re.compile(r"ckpt-([0-9]{1,15})\.index")
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Run:
    """What the files of a run say.

    Attributes:
      model_dir: directory of the run.
      settings: {name: value} of the saved settings; {} if they cannot be read.
      records: the records of kind TRAIN and MONITOR, ordered by step. Those that are read from
        event files have no epoch (NaN).
      evaluations: {eval_name: records of kind EVAL, ordered by step}; "" without eval_name.
      results: {file: {metric: value}} of result.json, result_NAME.json and best/result.json.
      probe: result_probe.json; None if there is none.
      starts: the starts of the run, the last one last; () for runs of earlier versions.
      step: number of steps taken, of the last record, checkpoint or result; None if there is none.
      total_steps: steps of the run; None if that is not recorded.
      state: one of STATES. UNKNOWN if nothing says whether the run ended or goes on.
      notes: what cannot be read, and why, one line each.
    """

    model_dir: str
    settings: Mapping[str, Any]
    records: tuple[Record, ...]
    evaluations: Mapping[str, tuple[Record, ...]]
    results: Mapping[str, Mapping[str, float]]
    probe: Probe | None
    starts: tuple[Start, ...]
    step: int | None
    total_steps: int | None
    state: str
    notes: tuple[str, ...]

    def of_kind(self, kind: str) -> list[Record]:
        """Returns the records of a kind, ordered by step."""
        return [record for record in self.records if record.kind == kind]

    @property
    def progress(self) -> str:
        """Returns "step 400 of 800", "step 400" or "no step"."""
        if self.step is None:
            return "no step"
        of_total = "" if self.total_steps is None else f" of {self.total_steps:,}"
        return f"step {self.step:,}{of_total}"

    @property
    def state_text(self) -> str:
        """Returns the state with the step: "finished, step 800 of 800", "step 400 of 800"."""
        return self.progress if self.state == UNKNOWN else f"{self.state}, {self.progress}"


def is_run(directory: str, names: set[str] | None = None) -> bool:
    """Returns whether a directory is the model_dir of a run.

    Args:
      directory: the directory.
      names: the names of its files; None to list them.

    Raises:
      ConfigError: the directory cannot be listed.
    """
    names = folders.names(directory) if names is None else names
    has_checkpoint = any(map(_CHECKPOINT.fullmatch, names))
    wrote = has_checkpoint or {run_lock.LOCK, "about.json", "flags.json"} & names
    if saved_settings.JSON in names:
        path = os.path.join(directory, saved_settings.JSON)
        try:
            # Many programs write a config.json.
            return files.read_json_object(path).get("format") == saved_settings.FORMAT
        except ConfigError:
            return bool(wrote)
    if saved_settings.GIN in names:
        return bool(wrote)
    return has_checkpoint and bool({"about.json", "flags.json"} & names)


def read(model_dir: str) -> Run:
    """Reads a run.

    Args:
      model_dir: directory of the run.

    Raises:
      ConfigError: there is no such directory, or it is not the model_dir of a run.
    """
    model_dir = model_dir.rstrip("/") or "/"
    names = folders.names(model_dir)
    if not is_run(model_dir, names):
        raise ConfigError(
            f"{model_dir!r} is not the directory of a run: it has neither config.json nor "
            "checkpoints; give the --model_dir of a run"
        )
    notes: list[str] = []
    settings = _try(notes, {}, saved_settings.read_of_run, model_dir)
    starts = tuple(_try(notes, [], history.read, model_dir))
    records, evaluations = _records(model_dir, names, starts, notes)
    results = run_results.read_results(model_dir, names, notes)
    steps = [record.step for record in (*records, *(r for e in evaluations.values() for r in e))]
    steps += [int(match[1]) for match in map(_CHECKPOINT.fullmatch, names) if match]
    steps += [int(values["global_step"]) for values in results.values() if "global_step" in values]
    step = max(steps, default=None)
    total_steps = starts[-1].total_steps if starts else settings.get("train_steps") or None
    return Run(
        model_dir=model_dir,
        settings=settings,
        records=records,
        evaluations=evaluations,
        results=results,
        probe=_try(notes, None, run_results.read_probe, model_dir),
        starts=starts,
        step=step,
        total_steps=total_steps,
        state=_state(model_dir, starts, step, total_steps),
        notes=tuple(notes),
    )


def _try(notes: list[str], default: Any, function: Callable[[str], T], path: str) -> T | Any:
    """Returns function(path). If it raises an error, notes it and returns the default.

    All errors count, because any may come from a damaged file.
    """
    try:
        return function(path)
    except ConfigError as error:
        notes.append(str(error))
    except Exception as error:
        notes.append(f"{path} cannot be read: {type(error).__name__}: {one_line(error)}")
    return default


def _records(
    model_dir: str, names: set[str], starts: tuple[Start, ...], notes: list[str]
) -> tuple[tuple[Record, ...], dict[str, tuple[Record, ...]]]:
    """Returns the records of training, and {eval_name: records of evaluations}."""
    # A run that an earlier version began has event files of steps that metrics.jsonl lacks.
    is_old = not starts or starts[0].step > 0

    def of(directory: str) -> list[Record]:
        records = _try(notes, [], metrics_file.read, directory)
        if is_old:
            old = _try(notes, [], event_records.read, directory)
            records = event_records.merge(old, records)
        return records

    everything = of(model_dir)
    evaluations = {"": [record for record in everything if record.kind == EVAL]}
    for name in sorted(names):
        if match := _EVAL_FOLDER.fullmatch(name):
            directory = os.path.join(model_dir, name)
            found = [record for record in of(directory) if record.kind == EVAL]
            before = evaluations.get(match[1] or "", [])
            evaluations[match[1] or ""] = event_records.merge(before, found)
    return (
        tuple(record for record in everything if record.kind != EVAL),
        {name: tuple(records) for name, records in evaluations.items() if records},
    )


def _state(
    model_dir: str, starts: tuple[Start, ...], step: int | None, total_steps: int | None
) -> str:
    is_training = run_lock.is_held(model_dir)
    if is_training:
        return TRAINING
    if starts and starts[-1].end:
        return starts[-1].end.reason
    if step is not None and total_steps is not None and step >= total_steps:
        return FINISHED
    # Without the length of the run, nothing tells a finished run from one that was killed.
    return UNKNOWN if is_training is None or total_steps is None else STOPPED
