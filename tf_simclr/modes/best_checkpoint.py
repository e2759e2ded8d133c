"""Keeps the best checkpoint of a run, and tells when the run no longer improves."""

from collections.abc import Mapping

import tensorflow as tf

from tf_simclr.checkpoints import about_file, result_files
from tf_simclr.checkpoints.result_files import Best
from tf_simclr.devices import workers
from tf_simclr.run_state import RunState


def read(state: RunState) -> Best | None:
    """Reads the results of the best checkpoint so far; None if there is none."""
    metric = result_files.best_metric(state.config)
    return result_files.read_best(state.model_dir, metric) if metric else None


def keep_if_best(state: RunState, results: Mapping[str, float]) -> None:
    """Saves the weights in model_dir/best if the results are the best so far.

    All workers must call it at the same step. The chief decides.

    Args:
      state: the run.
      results: {metric: value}, measured at the current step. Nothing is saved if they do not have
        the metric that decides. They may be empty on workers other than the chief.
    """
    if state.best_checkpointer is None:
        return
    metric, is_better = result_files.best_metric(state.config), False
    assert metric is not None, "otherwise there is no checkpointer"
    if state.is_chief and metric in results:
        best = read(state)
        is_better = best is None or best.is_better(results[metric])
    if not workers.from_chief(state.strategy, int(is_better)):
        return
    if state.is_chief:
        tf.io.gfile.makedirs(state.best_checkpointer.directory)
        about_file.write_about(state.best_checkpointer.directory, state.about())
    state.best_checkpointer.save()
    if state.is_chief:
        result_files.write_best(state.model_dir, results, step=state.step, metric=metric)


def steps_between_measurements(state: RunState) -> int:
    """Returns the number of steps between two measurements of the metric that decides."""
    is_evaluated = (result_files.best_metric(state.config) or "").startswith("eval/")
    return state.plan.eval_every_steps if is_evaluated else state.plan.monitor_every_steps


def no_longer_improves(state: RunState) -> str | None:
    """Returns why the run should end before its last step; None if it should not (stop_after).

    It depends only on the step and on best/result.json, so a resumed run decides as before. All
    workers must call it at the same step.
    """
    stop_after = state.config.training.stop_after
    if not stop_after:
        return None
    best = read(state) if state.is_chief else None
    patience = stop_after * steps_between_measurements(state)
    is_stale = best is not None and state.step - best.step >= patience
    if not workers.from_chief(state.strategy, int(is_stale)):
        return None
    if best is None:
        return "the chief stops"  # only the chief prints
    return (
        f"Stopped early at step {state.step} of {state.plan.total_steps}: {best.metric} has not "
        f"improved since step {best.step} ({best.value:.4g}), for "
        f"stop_after={stop_after} measurements. To go on, raise --stop_after "
        "or set it to 0."
    )
