"""Reads and writes the results of evaluations, and the results of the best checkpoint."""

import json
import os

from tf_simclr import files
from tf_simclr.errors import ConfigError, one_line

BEST = "best"  # folder in model_dir that holds the checkpoint with the best evaluation
TOP_1 = "eval/label_top_1_accuracy"  # the metric that decides which checkpoint is the best


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


def write_best(model_dir: str, results: dict[str, float], *, step: int) -> None:
    """Writes best/result.json beside the checkpoint that it describes.

    Args:
      model_dir: directory of the run.
      results: {metric: value}. The file also holds global_step.
      step: number of the training step that was evaluated.
    """
    _write(os.path.join(model_dir, BEST, "result.json"), results, step)


def _write(path: str, results: dict[str, float], step: int) -> None:
    files.write_text(path, json.dumps(results | {"global_step": step}, indent=2) + "\n")


def read_best(model_dir: str) -> dict[str, float] | None:
    """Reads the results of the best checkpoint so far, which `write_best` has written.

    Returns:
      {metric: value}, with global_step. None if there is no best checkpoint yet, or if the
      checkpoint was deleted: a run that is killed after it saves the next best checkpoint and
      before it writes the new results has deleted the checkpoint that the old results describe.

    Raises:
      ConfigError: the file does not hold what `write_best` writes.
    """
    path = os.path.join(model_dir, BEST, "result.json")
    if not files.is_file(path):
        return None
    results = files.read_json_object(path)
    step, top_1 = results.get("global_step"), results.get(TOP_1)
    if type(step) is not int or step < 0 or type(top_1) not in (int, float):
        raise ConfigError(
            f"{path} is not the result of an evaluation (global_step {one_line(repr(step))}, "
            f"{TOP_1} {one_line(repr(top_1))}): restore it, or delete it to choose the best again"
        )
    checkpoint_exists = files.is_file(os.path.join(model_dir, BEST, f"ckpt-{step}.index"))
    return results if checkpoint_exists else None
