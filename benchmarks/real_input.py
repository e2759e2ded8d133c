"""Measures the training step in a run: with images that are read, decoded and augmented."""

import statistics
import tempfile
import time

import numpy as np
import tensorflow as tf

from benchmarks.report import Row, measured
from tf_simclr import run_state
from tf_simclr.config import Config
from tf_simclr.data.sources.opening import open_data
from tf_simclr.data.sources.protocol import Source
from tf_simclr.modes import train
from tf_simclr.training import kept_images, run_input
from tf_simclr.training.plan import Plan, make_plan

STEPS = 10  # of a call, which also draws the views for a summary and returns to Python


def rows(
    name: str,
    setting: str,
    config: Config,
    strategy: tf.distribute.Strategy,
    *,
    repetitions: int,
    in_memory: float,
) -> list[Row]:
    """Measures images per second, and the share of time in which the step waits for a batch.

    Args:
      name: name of the step, for the table.
      setting: its settings, for the table.
      config: settings of a run, with a data set.
      strategy: the strategy of the run's devices.
      repetitions: number of timed calls.
      in_memory: images per second of the same step with a batch in memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        calls = _calls(config.replace(model_dir=f"{folder}/run"), strategy, repetitions)
    seconds, waits = np.transpose(calls)
    rate = STEPS * config.training.train_batch_size / statistics.median(seconds)
    wait = 100 * min(1.0, float(waits.sum() / seconds.sum()))
    setting = f"{config.data.dataset}, {setting}"
    return [
        measured(f"in a run, {name}", setting, "images/s", [rate, in_memory]),
        Row(f"in a run: waits for input, {name}", setting, "%", wait, None, "measured"),
    ]


def open_source(config: Config) -> tuple[Source, Plan]:
    """Opens the data set of a run.

    Raises:
      ConfigError: the data set cannot be read, or has fewer images than a batch.
    """
    source = open_data(config)
    return source, make_plan(config, source, evaluates=False)


def _calls(config: Config, strategy: tf.distribute.Strategy, repetitions: int) -> list[tuple]:
    """Returns the seconds and the waits of each call after the first, which compiles."""
    source, plan = open_source(config)
    state = run_state.build(config, source, plan, strategy)
    run_steps = train.make_run_steps(state)
    settled, _ = kept_images.settle(config, source, strategy, num_steps=plan.total_steps)
    iterator = iter(run_input.train_batches(settled, source, strategy, examples_seen=0))
    calls = []
    for _ in range(1 + repetitions):
        began = time.perf_counter()
        metrics, _, waits = run_steps(iterator, tf.constant(STEPS))
        metrics.numpy()  # waits for the device
        calls.append((time.perf_counter() - began, float(tf.reduce_sum(waits))))
    return calls[1:]
