"""Makes the hook that measures the embeddings of a pretraining run."""

import tensorflow as tf

from tf_simclr.run_state import RunState
from tf_simclr.training.embedder import Embedder
from tf_simclr.training.metrics_file import Writer
from tf_simclr.training.monitor import Monitor
from tf_simclr.training.plan import make_schedule


def make_monitor(
    state: RunState, summary_writer: tf.summary.SummaryWriter, record_writer: Writer | None
) -> Monitor:
    """Makes the hook.

    Args:
      state: the run; its plan names the images and the interval.
      summary_writer: writer of the run's event file.
      record_writer: writes metrics.jsonl; None on workers that are not the chief.
    """
    plan = state.plan
    embed = Embedder(
        state.config,
        state.source,
        state.strategy,
        state.task,
        split=plan.monitor_split,
        count=plan.monitor_images,
    )
    return Monitor(
        embed,
        state.metric_names,
        summary_writer,
        record_writer,
        state.record,
        every_steps=plan.monitor_every_steps,
        warmup_steps=make_schedule(state.config, plan).warmup_steps,
        batch_size=state.config.training.train_batch_size,
    )
