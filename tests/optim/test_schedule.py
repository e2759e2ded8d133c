"""The learning rate against golden numbers and NumPy, eagerly and in graphs."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.optim import schedule
from tf_simclr.optim.schedule import WarmUpAndCosineDecay


def expected(step: int, peak: float, warmup: int, total: int) -> float:
    if step < warmup:
        return peak * step / warmup
    progress = min(step - warmup, total - warmup) / (total - warmup)
    return peak * (1 + math.cos(math.pi * progress)) / 2


def rates(schedule, steps) -> tuple[list[float], list[float]]:
    """Computes the rates eagerly from Python ints, and in a graph from int64 tensors."""
    traced = tf.function(schedule)
    return (
        [float(schedule(step)) for step in steps],
        [float(traced(tf.constant(step, tf.int64))) for step in steps],
    )


@pytest.mark.parametrize("case", range(5))
def test_golden_schedules(golden, case):
    g = json.loads(golden("schedule.json").read_text())[case]
    batch, examples = g["train_batch_size"], g["num_examples"]
    total = schedule.total_steps(
        train_steps=g["train_steps_flag"],
        train_epochs=g["train_epochs"],
        num_examples=examples,
        global_batch_size=batch,
    )
    assert total == g["total_steps"]
    decay = WarmUpAndCosineDecay(
        schedule.scaled_learning_rate(g["learning_rate"], g["learning_rate_scaling"], batch),
        warmup_steps=schedule.warmup_steps(g["warmup_epochs"], examples, batch),
        total_steps=total,
    )
    for computed in rates(decay, g["steps"]):
        np.testing.assert_allclose(computed, g["values"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("warmup, total", [(0, 7), (3, 10), (9, 10)])
def test_every_step_of_short_runs(warmup, total):
    decay = WarmUpAndCosineDecay(2.0, warmup_steps=warmup, total_steps=total)
    values = [expected(step, 2.0, warmup, total) for step in range(total + 1)]
    for computed in rates(decay, range(total + 1)):
        np.testing.assert_allclose(computed, values, rtol=1e-5, atol=1e-6)
    assert max(values) == 2.0 and values[-1] == pytest.approx(0, abs=1e-9)


def test_stays_at_zero_after_the_end():
    decay = WarmUpAndCosineDecay(2.0, warmup_steps=3, total_steps=10)
    assert [float(decay(step)) for step in (10, 11, 1000)] == [0, 0, 0]


def test_a_run_that_ends_within_its_warm_up_only_rises():
    decay = WarmUpAndCosineDecay(1.0, warmup_steps=100, total_steps=10)
    np.testing.assert_allclose([float(decay(s)) for s in range(11)], np.arange(11) / 100, rtol=1e-6)
    assert np.isfinite([float(decay(s)) for s in (99, 100, 101)]).all()


def test_fractional_steps():
    decay = WarmUpAndCosineDecay(1.0, warmup_steps=4, total_steps=8)
    assert float(decay(tf.constant(1.5))) == pytest.approx(0.375)


@pytest.mark.parametrize(
    "scaling, batch, factor",
    [("linear", 256, 1), ("linear", 4096, 16), ("sqrt", 256, 16), ("sqrt", 4096, 64)],
)
def test_scaled_learning_rate(scaling, batch, factor):
    assert schedule.scaled_learning_rate(0.3, scaling, batch) == pytest.approx(0.3 * factor)


def test_unknown_scaling():
    with pytest.raises(ValueError, match="learning_rate_scaling must be one of .*got 'cubic'"):
        schedule.scaled_learning_rate(0.3, "cubic", 256)


@pytest.mark.parametrize(
    "epochs, examples, batch, steps",
    [(10, 1281167, 4096, 3127), (0, 50000, 512, 0), (0.5, 50000, 256, 97), (1, 511, 512, 0)],
)
def test_warm_up_is_whole_steps(epochs, examples, batch, steps):
    rounded = schedule.warmup_steps(epochs, examples, batch)
    assert rounded == steps and isinstance(rounded, int)


@pytest.mark.parametrize(
    "train_steps, epochs, examples, batch, total",
    [
        (1000, 100, 50000, 512, 1000),
        (0, 100, 50000, 512, 9766),
        (0, 1, 512, 512, 2),
        (0, 1, 8, 9, 1),
    ],
)
def test_total_steps_is_the_flag_or_the_epochs_and_one(train_steps, epochs, examples, batch, total):
    computed = schedule.total_steps(
        train_steps=train_steps, train_epochs=epochs, num_examples=examples, global_batch_size=batch
    )
    assert computed == total


@pytest.mark.parametrize("peak, warmup, total", [(0, 1, 2), (-1, 1, 2), (1, -1, 2), (1, 0, 0)])
def test_arguments_are_checked_when_it_is_made(peak, warmup, total):
    with pytest.raises(ValueError, match=f"got {peak}, {warmup} and {total}"):
        WarmUpAndCosineDecay(peak, warmup_steps=warmup, total_steps=total)


def test_config_round_trip():
    decay = WarmUpAndCosineDecay(2.0, warmup_steps=3, total_steps=10, name="mine")
    serialized = keras.optimizers.schedules.serialize(decay)
    for copy in (
        WarmUpAndCosineDecay.from_config(decay.get_config()),
        keras.optimizers.schedules.deserialize(json.loads(json.dumps(serialized))),
    ):
        assert copy.get_config() == decay.get_config()
        np.testing.assert_array_equal(rates(copy, range(12)), rates(decay, range(12)))
