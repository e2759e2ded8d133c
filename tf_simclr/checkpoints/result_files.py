"""Reads and writes the results of evaluations, and the results of the best checkpoint."""

import json
import os
from collections.abc import Mapping
from typing import NamedTuple

from tf_simclr import files
from tf_simclr.config import Config
from tf_simclr.config.choices import BEST_METRICS, LOWER_IS_BETTER
from tf_simclr.errors import ConfigError, one_line

BEST = "best"  # folder in model_dir that holds the best checkpoint
TOP_1 = "eval/label_top_1_accuracy"  # decides which checkpoint is the best, unless best_metric does
_METRIC = "best_metric"  # key in best/result.json; files of earlier versions lack it


class Best(NamedTuple):
    """The results of the best checkpoint so far.

    Attributes:
      step: step of the checkpoint, best/ckpt-STEP.
      metric: the metric that decides which checkpoint is the best.
      value: its value.
      results: {metric: value} of all that was measured with it.
    """

    step: int
    metric: str
    value: float
    results: dict[str, float]

    def is_better(self, value: float) -> bool:
        """Returns whether a value of the metric is better than this one."""
        return value < self.value if self.metric in LOWER_IS_BETTER else value > self.value


def eval_directory(model_dir: str, name: str | None) -> str:
    """Returns the directory for the summaries of an evaluation.

    Args:
      model_dir: directory of the run.
      name: the setting eval_name, or None.
    """
    return os.path.join(model_dir, "eval" + _suffix(name))


def _suffix(name: str | None) -> str:
    return f"_{name}" if name else ""


def write_results(
    model_dir: str, results: dict[str, float], *, step: int, name: str | None
) -> None:
    """Writes result.json and result_STEP.json, as the official code does.

    Args:
      model_dir: directory of the run.
      results: {metric: value}. The files also hold global_step.
      step: number of the training step that was evaluated.
      name: the setting eval_name, which becomes part of the file names, or None.
    """
    suffix = _suffix(name)
    for file in (f"result{suffix}.json", f"result{suffix}_{step}.json"):
        _write(os.path.join(model_dir, file), results, step)


def best_metric(config: Config) -> str | None:
    """Returns the metric that decides which checkpoint is the best; None if none is kept."""
    training = config.training
    return training.best_metric or (TOP_1 if training.eval_every_epochs else None)


def write_best(model_dir: str, results: Mapping[str, float], *, step: int, metric: str) -> None:
    """Writes best/result.json beside the checkpoint that it describes.

    Args:
      model_dir: directory of the run.
      results: {metric: value}. The file also holds global_step and best_metric.
      step: number of the training step that was measured.
      metric: the metric that decides which checkpoint is the best, a key of results.
    """
    _write(os.path.join(model_dir, BEST, "result.json"), {**results, _METRIC: metric}, step)


def _write(path: str, results: Mapping[str, float | str], step: int) -> None:
    files.write_text(path, json.dumps({**results} | {"global_step": step}, indent=2) + "\n")


def read_best(model_dir: str, metric: str) -> Best | None:
    """Reads the results of the best checkpoint so far, which `write_best` has written.

    Args:
      model_dir: directory of the run.
      metric: the metric that decides which checkpoint is the best.

    Returns:
      None if there is no best checkpoint yet, or if the checkpoint was deleted: a run that is
      killed after it saves the next best checkpoint and before it writes the new results has
      deleted the checkpoint that the old results describe.

    Raises:
      ConfigError: the file does not hold what `write_best` writes, or another metric has decided.
    """
    path = os.path.join(model_dir, BEST, "result.json")
    if not files.is_file(path):
        return None
    results = files.read_json_object(path)
    before = results.pop(_METRIC, TOP_1)
    if before not in BEST_METRICS:
        raise ConfigError(
            f"{path} names the unknown metric {one_line(repr(before))}: restore it, or delete "
            f"{os.path.join(model_dir, BEST)!r} to choose the best again"
        )
    if before != metric:
        raise ConfigError(
            f"best_metric must be {before} with model_dir {model_dir!r}, whose best checkpoint was "
            f"chosen by it, got {metric}: keep it, or delete {os.path.join(model_dir, BEST)!r} to "
            "choose the best again"
        )
    step, value = results.pop("global_step", None), results.get(metric)
    # bool is a subclass of int.
    is_number = isinstance(value, int | float) and type(value) is not bool
    if type(step) is not int or step < 0 or value is None or not is_number:
        raise ConfigError(
            f"{path} is not the result of an evaluation (global_step {one_line(repr(step))}, "
            f"{metric} {one_line(repr(value))}): restore it, or delete it to choose the best again"
        )
    checkpoint_exists = files.is_file(os.path.join(model_dir, BEST, f"ckpt-{step}.index"))
    return Best(step, metric, value, results) if checkpoint_exists else None
