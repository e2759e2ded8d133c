"""What differs between Keras 2 and 3, seen from outside: nothing."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_simclr import compat


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


@pytest.mark.parametrize("make", [lambda: keras.optimizers.SGD(0.5), Plain], ids=["SGD", "Plain"])
@pytest.mark.parametrize("number", [1, 2])
def test_gradients_are_not_summed_once_more(replicas, make, number):
    strategy = replicas(number)
    with strategy.scope():
        layer, optimizer = dense(1, 1), make()
        layer.kernel.assign([[1.0]])
        optimizer.build([layer.kernel])

    @tf.function
    def step():
        compat.apply_gradients(optimizer, [(tf.constant([[1.0]]), layer.kernel)])

    strategy.run(step)
    assert np.array(tf.convert_to_tensor(layer.kernel)).item() == 0.5
    assert int(optimizer.iterations.numpy()) == 1


@pytest.mark.parametrize("optimizer, names", [
    (lambda: keras.optimizers.SGD(0.1, momentum=0.9), {"momentum"}),
    (lambda: keras.optimizers.Adam(0.1), {"momentum", "velocity"}),
    (lambda: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 10)),
     {"momentum", "velocity"}),
    (Plain, {"momentum"}),
], ids=["momentum", "adam", "adam with a schedule", "plain"])  # fmt: skip
def test_slots_by_name_in_the_order_of_the_variables(optimizer, names):
    layer, made = dense(), optimizer()
    made.build([layer.kernel, layer.bias])
    slots = compat.optimizer_slots(made)
    assert set(slots) == names
    for variables in slots.values():
        assert [tuple(v.shape) for v in variables] == [(2, 3), (3,)]


def test_slots_hold_what_the_optimizer_keeps():
    layer, made = dense(), keras.optimizers.Adam(0.1)
    made.build([layer.kernel, layer.bias])
    compat.apply_gradients(made, [(tf.ones((2, 3)), layer.kernel), (2 * tf.ones(3), layer.bias)])
    slots = compat.optimizer_slots(made)
    for name, factor in (("momentum", 0.1 * 1), ("velocity", 0.001 * 1)):
        np.testing.assert_allclose(np.array(slots[name][0]), factor, rtol=1e-4)
    np.testing.assert_allclose(np.array(slots["momentum"][1]), 0.2, rtol=1e-4)
    np.testing.assert_allclose(np.array(slots["velocity"][1]), 0.004, rtol=1e-4)


def test_slots_of_unknown_names_are_not_lost_in_silence():
    layer, made = dense(), keras.optimizers.Adadelta(0.1)
    made.build([layer.kernel, layer.bias])
    with pytest.raises(AssertionError, match="unknown names"):
        compat.optimizer_slots(made)


def test_slot_optimizer_updates_by_position():
    layer, made = dense(), Plain(0.5)
    layer.kernel.assign(np.zeros((2, 3)))
    made.build([layer.kernel, layer.bias])
    gradients = [(tf.ones((2, 3)), layer.kernel), (tf.ones(3), layer.bias)]
    for _ in range(2):
        compat.apply_gradients(made, gradients)
    np.testing.assert_allclose(np.array(layer.kernel), -1.0)
    np.testing.assert_allclose(np.array(layer.bias), -2.0)
    np.testing.assert_allclose(np.array(made.momentums[1]), 2.0)
    assert int(made.iterations.numpy()) == 2
    compat.apply_gradients(made, gradients[1:])  # a gradient may be missing
    np.testing.assert_allclose(np.array(layer.bias), -3.0)
    np.testing.assert_allclose(np.array(layer.kernel), -1.0)


def test_slot_optimizer_follows_a_schedule():
    rates = keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], [1.0, 10.0, 100.0])
    layer, made = dense(), Plain(rates)
    made.build([layer.bias])
    found = []
    for _ in range(3):
        compat.apply_gradients(made, [(tf.ones(3), layer.bias)])
        found.append(np.array(layer.bias)[0])
    assert found == [-1, -11, -111]


def test_learning_rate_config():
    assert Plain(0.25).learning_rate_config() == pytest.approx(0.25)
    assert isinstance(Plain(0.25).learning_rate_config(), float)
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    config = Plain(schedule).learning_rate_config()
    copy = keras.optimizers.schedules.deserialize(config)
    assert copy.get_config() == schedule.get_config()
