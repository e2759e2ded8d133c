"""The loss scale of float16: down, up, skipped steps, and its variables in a checkpoint."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from function_task import FunctionTask, batch_of
from tf_simclr import compat
from tf_simclr.optim.loss_scale import INITIAL, LARGEST, LossScale
from tf_simclr.training.train_step import train_step


def number(variable) -> float:
    return float(tf.convert_to_tensor(variable))


@pytest.fixture
def trained(replicas):
    """Function: (replicas, gradient factor of each step) -> (weights, losses, scale, steps)."""

    def half(x):
        return tf.cast(x, tf.float16)  # its largest number is 65504

    def run(count: int, factors, steps_before_doubling=100):
        strategy = replicas(count)
        with strategy.scope():
            layer = keras.layers.Dense(1, use_bias=False)
            layer.build((None, 1))
            layer.kernel.assign([[2.0]])
            optimizer = keras.optimizers.SGD(0.5, momentum=0.5)
            optimizer.build([layer.kernel])
            scale = LossScale(steps_before_doubling=steps_before_doubling)

        @tf.function
        def step(factor):
            def loss(*_):
                w = tf.reshape(compat.tf_variable(layer.kernel), [])
                return {"total_loss": tf.cast(half(w) * half(factor), tf.float32)}

            task = FunctionTask(loss, [layer.kernel])
            return strategy.run(
                lambda: train_step(task, optimizer, batch_of(factor), loss_scale=scale)
            )

        path, scales, losses = [], [], []
        for factor in factors:
            metrics = step(tf.constant(factor, tf.float32))
            losses.append(number(strategy.experimental_local_results(metrics["total_loss"])[0]))
            path.append(number(layer.kernel))
            scales.append(number(scale.variables["scale"]))
        return path, losses, scales, int(optimizer.iterations.numpy())

    return run


@pytest.mark.parametrize("count", [1, 2])
def test_a_step_that_overflows_is_skipped_on_all_replicas_and_halves_the_scale(trained, count):
    # The gradient of the first step is 1/count * INITIAL * factor in float16: inf where > 65504.
    path, losses, scales, iterations = trained(count, [4.0 * count, 1.0, 1.0])
    assert path[0] == 2.0 and scales == [INITIAL / 2] * 3
    assert path[1] == pytest.approx(2 - 0.5)
    assert path[2] == pytest.approx(
        2 - 0.5 - 0.5 - 0.25
    )  # the skipped first step left the momentum alone
    assert iterations == 3
    assert np.isfinite(losses).all()  # training stops if the loss is not finite


def test_the_scale_doubles_after_finite_steps_in_a_row_up_to_a_limit(trained):
    *_, scales, _ = trained(1, [0.1, 8.0, 0.1, 0.1, 0.1, 0.1], steps_before_doubling=2)
    assert [s / INITIAL for s in scales] == [1, 0.5, 0.5, 1, 1, 2]
    scale = LossScale(steps_before_doubling=1)
    for _ in range(20):
        scale._adapt(tf.constant(True))
    assert number(scale.variables["scale"]) == LARGEST
    for _ in range(40):
        scale._adapt(tf.constant(False))
    assert number(scale.variables["scale"]) == 1.0


def test_the_scale_does_not_change_the_step(trained):
    scaled, *_ = trained(2, [0.25, -0.5, 1.0])
    assert scaled == pytest.approx([1.875, 2.0625, 1.65625])  # SGD with momentum by hand
