"""The compatibility layer behaves the same with Keras 2 and Keras 3."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_simclr import compat
from tf_simclr.errors import ConfigError


class Plain(compat.SlotOptimizer):
    """w -= learning_rate * g * (position + 1); the slot sums the gradients."""

    def __init__(self, learning_rate=0.5, name="Plain", **kwargs):
        super().__init__(learning_rate, name, **kwargs)
        self.momentums = None

    def build(self, variables):
        super().build(variables)
        self.momentums = self.momentums or self.add_slots(variables, "sum")

    def update(self, gradient, variable, position, learning_rate):
        assert learning_rate.dtype == tf.float32
        self.momentums[position].assign_add(gradient)
        variable.assign_sub(learning_rate * gradient * (position + 1))


def dense(inputs=2, units=3) -> keras.layers.Layer:
    layer = keras.layers.Dense(units)
    layer.build((None, inputs))
    return layer


def test_tf_variable_is_what_holds_the_value():
    kernel = dense().kernel
    variable = compat.tf_variable(kernel)
    assert isinstance(variable, tf.Variable)
    assert compat.tf_variable(variable) is variable
    variable.assign(np.full((2, 3), 7.0))
    np.testing.assert_array_equal(np.array(tf.convert_to_tensor(kernel)), np.full((2, 3), 7.0))


# The first step of LAMB has the length of the weight times the learning rate for every gradient, so
# only its slots would show a sum.
@pytest.mark.parametrize(
    "make, expected_slots",
    [
        (lambda: keras.optimizers.SGD(0.5, momentum=0.9), [-0.5]),
        (Plain, [1.0]),
        (lambda: compat.lamb(0.5), [0.1, 0.001]),
    ],
    ids=["SGD", "Plain", "lamb"],
)
@pytest.mark.parametrize("number", [1, 2])
def test_gradients_are_not_summed_once_more(replicas, make, expected_slots, number):
    strategy = replicas(number)
    with strategy.scope():
        layer, optimizer = dense(1, 1), make()
        layer.kernel.assign([[1.0]])
        optimizer.build([layer.kernel])

    @tf.function
    def step():
        compat.apply_gradients(optimizer, [(tf.constant([[1.0]]), layer.kernel)])

    strategy.run(step)
    assert np.array(tf.convert_to_tensor(layer.kernel)).item() == pytest.approx(0.5, rel=1e-6)
    slots = compat.optimizer_slots(optimizer).values()
    values = [np.array(tf.convert_to_tensor(slot)).item() for (slot,) in slots]
    assert values == pytest.approx(expected_slots, rel=1e-4)  # 1 - 0.999 in float32
    assert int(optimizer.iterations.numpy()) == 1


@pytest.mark.parametrize(
    "make, names",
    [
        (lambda: keras.optimizers.SGD(0.1, momentum=0.9), {"momentum"}),
        (lambda: keras.optimizers.Adam(0.1), {"momentum", "velocity"}),
        (
            lambda: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 10)),
            {"momentum", "velocity"},
        ),
        (Plain, {"momentum"}),
        (lambda: compat.lamb(0.1), {"momentum", "velocity"}),
    ],
    ids=["momentum", "adam", "adam with a schedule", "plain", "lamb"],
)
def test_slots_by_name_in_the_order_of_the_variables(make, names):
    layer, optimizer = dense(), make()
    optimizer.build([layer.kernel, layer.bias])
    slots = compat.optimizer_slots(optimizer)
    assert set(slots) == names
    for variables in slots.values():
        assert [tuple(v.shape) for v in variables] == [(2, 3), (3,)]


def lamb_in_numpy(weights, gradients, rates):
    """Computes algorithm 2 of arXiv:1904.00962 without weight decay."""
    m = v = 0.0
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        update = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-6)
        norm = np.linalg.norm(weights)
        trust = norm / np.linalg.norm(update) if norm else 1.0
        weights = weights - rate * trust * update
    return weights, m, v


def test_lamb_is_that_of_its_paper_with_a_schedule():
    rng = np.random.default_rng(0)
    rates = keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], [0.1, 0.2, 0.3])
    layer, optimizer = dense(), compat.lamb(rates)
    kernel = rng.normal(size=(2, 3))
    layer.kernel.assign(kernel)
    optimizer.build([layer.kernel, layer.bias])  # the bias is 0: its trust ratio is 1
    gradients = [(rng.normal(size=(2, 3)), rng.normal(size=3)) for _ in range(3)]
    for of_kernel, of_bias in gradients:
        compat.apply_gradients(
            optimizer,
            [
                (tf.constant(of_kernel, tf.float32), layer.kernel),
                (tf.constant(of_bias, tf.float32), layer.bias),
            ],
        )
    slots = compat.optimizer_slots(optimizer)
    for i, (variable, start) in enumerate([(layer.kernel, kernel), (layer.bias, np.zeros(3))]):
        expected = lamb_in_numpy(start, [g[i] for g in gradients], [0.1, 0.2, 0.3])
        values = (variable, slots["momentum"][i], slots["velocity"][i])
        for value, wanted in zip(values, expected, strict=True):
            np.testing.assert_allclose(np.array(value), wanted, rtol=1e-4, atol=1e-7)
    assert int(optimizer.iterations.numpy()) == 3


@pytest.mark.skipif(compat.KERAS_3, reason="Keras 3 has its own LAMB")
def test_lamb_without_tensorflow_addons_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_addons", None)  # the import then fails
    with pytest.raises(ConfigError, match="optimizer lamb .*pip install tensorflow-addons"):
        compat.lamb(0.1)


def test_slots_hold_what_the_optimizer_keeps():
    layer, optimizer = dense(), keras.optimizers.Adam(0.1)
    optimizer.build([layer.kernel, layer.bias])
    compat.apply_gradients(
        optimizer, [(tf.ones((2, 3)), layer.kernel), (2 * tf.ones(3), layer.bias)]
    )
    slots = compat.optimizer_slots(optimizer)
    for name, factor in (("momentum", 0.1 * 1), ("velocity", 0.001 * 1)):
        np.testing.assert_allclose(np.array(slots[name][0]), factor, rtol=1e-4)
    np.testing.assert_allclose(np.array(slots["momentum"][1]), 0.2, rtol=1e-4)
    np.testing.assert_allclose(np.array(slots["velocity"][1]), 0.004, rtol=1e-4)


def test_slots_of_unknown_names_are_not_lost_in_silence():
    layer, optimizer = dense(), keras.optimizers.Adadelta(0.1)
    optimizer.build([layer.kernel, layer.bias])
    with pytest.raises(AssertionError, match="unknown names"):
        compat.optimizer_slots(optimizer)


def test_slot_optimizer_updates_by_position():
    layer, optimizer = dense(), Plain(0.5)
    layer.kernel.assign(np.zeros((2, 3)))
    optimizer.build([layer.kernel, layer.bias])
    gradients = [(tf.ones((2, 3)), layer.kernel), (tf.ones(3), layer.bias)]
    for _ in range(2):
        compat.apply_gradients(optimizer, gradients)
    np.testing.assert_allclose(np.array(layer.kernel), -1.0)
    np.testing.assert_allclose(np.array(layer.bias), -2.0)
    np.testing.assert_allclose(np.array(optimizer.momentums[1]), 2.0)
    assert int(optimizer.iterations.numpy()) == 2
    compat.apply_gradients(optimizer, gradients[1:])  # a gradient may be missing
    np.testing.assert_allclose(np.array(layer.bias), -3.0)
    np.testing.assert_allclose(np.array(layer.kernel), -1.0)


def test_slot_optimizer_follows_a_schedule():
    rates = keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], [1.0, 10.0, 100.0])
    layer, optimizer = dense(), Plain(rates)
    optimizer.build([layer.bias])
    biases = []
    for _ in range(3):
        compat.apply_gradients(optimizer, [(tf.ones(3), layer.bias)])
        biases.append(np.array(layer.bias)[0])
    assert biases == [-1, -11, -111]


def test_learning_rate_config():
    assert Plain(0.25).learning_rate_config() == pytest.approx(0.25)
    assert isinstance(Plain(0.25).learning_rate_config(), float)
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    config = Plain(schedule).learning_rate_config()
    copy = keras.optimizers.schedules.deserialize(config)
    assert copy.get_config() == schedule.get_config()
