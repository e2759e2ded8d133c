"""The time that a step waits for its batch, against the clock of Python, with known sleeps."""

import time

import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.data.batch import ViewBatch
from tf_simclr.training import device_loop

NUM_STEPS = 6


def measured(strategy, *, input_seconds, step_seconds, prefetch=0):
    """(waits by the graph, waits by Python, seconds of the call): arrays (steps,) and a number.

    Python notes when the step begins and ends: in between it waits.
    """
    began, ended = [], []

    def sleep_input(labels):
        time.sleep(input_seconds)
        return labels

    def sleep_step(labels):
        began.append(time.time())
        time.sleep(step_seconds)
        ended.append(time.time())
        return np.float32(1)

    batch = ViewBatch(*(np.zeros(s, np.float32) for s in ((2, 2, 4, 4, 3), (2, 1), (2,))))

    def slow(batch):
        if not input_seconds:
            return batch
        labels = tf.numpy_function(sleep_input, [batch.labels], tf.float32)
        return batch._replace(labels=tf.ensure_shape(labels, (2, 1)))

    dataset = tf.data.Dataset.from_tensors(batch).repeat().map(slow).prefetch(prefetch)
    iterator = iter(strategy.distribute_datasets_from_function(lambda _: dataset))
    with strategy.scope():
        weights = tf.Variable(0.0, aggregation=tf.VariableAggregation.MEAN)

    def step(batch):
        amount = tf.ensure_shape(tf.numpy_function(sleep_step, [batch.labels], tf.float32), ())
        weights.assign_add(amount)
        return {"total_loss": amount}

    run_steps = device_loop.make_run_steps(
        strategy,
        step,
        ("total_loss",),
        image_size=4,
        preview=lambda batch, number: batch.views[:number, 0],
        last_updated=weights,
    )
    run_steps(iterator, tf.constant(1))  # compiles
    began.clear()
    ended.clear()
    start = time.time()
    waits = run_steps(iterator, tf.constant(NUM_STEPS))[-1].numpy()
    seconds = time.time() - start
    assert float(tf.convert_to_tensor(weights)) == 1 + NUM_STEPS
    return waits, np.array(began) - np.array([start, *ended[:-1]]), seconds


@pytest.fixture
def one_device():
    return tf.distribute.OneDeviceStrategy("CPU:0")


def test_each_step_waits_for_an_input_that_sleeps(one_device):
    waits, _, seconds = measured(one_device, input_seconds=0.05, step_seconds=0)
    assert waits.shape == (NUM_STEPS,) and waits.dtype == np.float64
    assert (waits > 0.04).all() and 0.5 < waits.sum() / seconds <= 1


def test_a_step_that_sleeps_does_not_wait(one_device):
    waits, _, seconds = measured(one_device, input_seconds=0, step_seconds=0.1)
    assert (waits >= 0).all() and waits.sum() / seconds < 0.2


def test_an_input_that_runs_ahead_hides_the_time_of_the_step(one_device):
    """A batch takes 0.15 s, a step 0.1 s at the same time: the step waits a third of the time."""
    waits, by_python, seconds = measured(
        one_device, input_seconds=0.15, step_seconds=0.1, prefetch=2
    )
    # The first batch may be there already.
    assert 0.5 < waits[1:].sum() / by_python[1:].sum() < 1.1
    assert 0.1 < waits.sum() / seconds < 0.6


def test_replicas_wait_for_the_input_of_their_worker(replicas):
    waits, _, seconds = measured(replicas(2), input_seconds=0.05, step_seconds=0)
    assert waits.sum() / seconds > 0.5
