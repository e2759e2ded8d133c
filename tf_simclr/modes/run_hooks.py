"""Makes the hooks of a training run: what the host does between calls of the device."""

import functools
from collections.abc import Callable

import tensorflow as tf

from tf_simclr.modes import best_checkpoint
from tf_simclr.run_state import RunState
from tf_simclr.training import embedder, hooks, metrics_file, monitor, reports
from tf_simclr.training.plan import make_schedule


def make(state: RunState, evaluator: Callable[[], object]) -> list[hooks.Hook]:
    """Returns the hooks, in the order in which they must run (training/hooks.py).

    Args:
      state: the run.
      evaluator: evaluates the current weights.
    """
    training, plan = state.config.training, state.plan
    writer, records = reports.open_writers(state.model_dir, state.step, writes=state.is_chief)
    result, flush = _reports(state, writer, records)
    if plan.monitor_every_steps:
        result.append(_monitor(state, writer, records))
    if training.profile_steps:
        first, last = map(int, training.profile_steps.split(","))
        result.append(hooks.Trace(state.model_dir, first, last, writes=state.is_chief))
    if plan.eval_every_steps:
        result.append(hooks.Evaluations(evaluator, every_steps=plan.eval_every_steps))
    result.append(hooks.Checkpoints(state.checkpointer, flush, every_steps=plan.checkpoint_steps))
    if training.stop_after:
        result.append(
            hooks.EarlyStop(
                state.checkpointer,
                functools.partial(best_checkpoint.no_longer_improves, state),
                every_steps=best_checkpoint.steps_between_measurements(state),
            )
        )
    return result


def _reports(
    state: RunState, writer: tf.summary.SummaryWriter, records: metrics_file.Writer | None
) -> tuple[list[hooks.Hook], Callable[[], None]]:
    """Makes the hooks that report on training; also returns a function that flushes its files."""
    training, step = state.config.training, state.step
    metrics = reports.Metrics(state.metric_names, first_step=step, is_chief=state.is_chief)
    speed = reports.Speed(training.train_batch_size)
    progress = reports.Progress(
        training.train_mode,
        metrics,
        first_step=step,
        total_steps=state.plan.total_steps,
        batch_size=training.train_batch_size,
        is_chief=state.is_chief,
    )
    summaries = reports.Summaries(
        writer,
        metrics,
        speed,
        state.learning_rate,
        every_steps=training.train_summary_steps,
        records=records,
        to_record=state.record,
    )
    require_finite = hooks.RequireFinite(
        state.metric_names, state.checkpointer, state.learning_rate
    )
    return [require_finite, metrics, speed, progress, summaries], summaries.flush


def _monitor(
    state: RunState, writer: tf.summary.SummaryWriter, records: metrics_file.Writer | None
) -> monitor.Monitor:
    """Makes the hook that measures the embeddings of pretraining."""
    plan = state.plan
    embed = embedder.Embedder(
        state.config,
        state.source,
        state.strategy,
        state.task,
        split=plan.monitor_split,
        count=plan.monitor_images,
    )
    return monitor.Monitor(
        embed,
        state.metric_names,
        monitor.Outputs(
            writer, records, state.record, functools.partial(best_checkpoint.keep_if_best, state)
        ),
        every_steps=plan.monitor_every_steps,
        warmup_steps=make_schedule(state.config, plan).warmup_steps,
        batch_size=state.config.training.train_batch_size,
    )
