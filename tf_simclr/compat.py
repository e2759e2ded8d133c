"""The one place that tells Keras 2 (TensorFlow 2.15) and Keras 3 (TensorFlow >= 2.16) apart."""

import warnings

import keras
import tensorflow as tf

from tf_simclr.errors import ConfigError

KERAS_3 = int(keras.__version__.split(".")[0]) >= 3


def tf_variable(variable) -> tf.Variable:
    """The tf.Variable behind a Keras variable (Keras 2 variables are tf.Variables already)."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def apply_gradients(optimizer, gradients_and_variables):
    """Applies gradients that are already summed over the replicas.

    Both Kerases would sum them once more. Keras 2 has an argument against it, and its legacy
    optimizers another; Keras 3 (from some 3.x on) does so in a method of its TensorFlow optimizers.
    """
    if KERAS_3:
        optimizer._all_reduce_sum_gradients = lambda summed: summed
        gradients, variables = zip(*gradients_and_variables, strict=True)
        optimizer.apply(list(gradients), list(variables))
    elif isinstance(optimizer, keras.optimizers.legacy.Optimizer):
        optimizer.apply_gradients(gradients_and_variables, experimental_aggregate_gradients=False)
    else:
        optimizer.apply_gradients(gradients_and_variables, skip_gradients_aggregation=True)


def lamb(learning_rate):
    """LAMB (arXiv:1904.00962): Keras 3's own, tensorflow-addons' with Keras 2.

    The same equations with the same constants on both; every variable adapts.

    Raises:
      ConfigError: tensorflow-addons is needed and not there.
    """
    constants = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-6}
    if KERAS_3:
        return keras.optimizers.Lamb(learning_rate, **constants)
    try:
        with warnings.catch_warnings():  # of its end of life, which this very function deals with
            warnings.simplefilter("ignore")
            import tensorflow_addons
    except ImportError as error:
        raise ConfigError(
            "optimizer lamb with Keras 2 is that of tensorflow-addons, which is not installed: "
            "pip install tensorflow-addons==0.23.0, or choose another optimizer"
        ) from error

    class Lamb(tensorflow_addons.optimizers.LAMB):
        """With the interface of Keras 2's present optimizers, as far as it is needed here."""

        def build(self, variables):
            self._create_all_weights(variables)
            self.momentums = [self.get_slot(v, "m") for v in variables]
            self.velocities = [self.get_slot(v, "v") for v in variables]

    return Lamb(learning_rate, **constants)


SLOTS = {"momentum": ("momentums", "_momentums"), "velocity": ("velocities", "_velocities")}


def optimizer_slots(optimizer) -> dict[str, list]:
    """{slot's name: its variables, in the order of the variables the optimizer was built for}."""
    found = {}
    for name, attributes in SLOTS.items():
        for attribute in attributes:
            if slots := getattr(optimizer, attribute, None):
                found[name] = list(slots)
                break
    known = sum(len(slots) for slots in found.values())
    variables = optimizer.variables
    variables = variables() if callable(variables) else variables  # a legacy optimizer's method
    counters = 2  # iterations and, for a constant learning rate, the learning rate
    assert len(variables) - known <= counters, f"{optimizer} has slots of unknown names"
    return found


class SlotOptimizer(keras.optimizers.Optimizer):
    """Base of optimizers with one slot a variable, the same on both Kerases.

    A subclass implements `build` (call `super().build`, then `add_slots`) and
    `update(gradient, variable, slot, position, learning_rate)`, where position is the variable's
    place in the list given to `build`.
    """

    def __init__(self, learning_rate, name, **kwargs):
        if KERAS_3:
            super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        else:
            # XLA compilation of the update is decided by the whole step, not by its optimizer.
            kwargs.setdefault("jit_compile", False)
            super().__init__(name=name, **kwargs)
            self._learning_rate = self._build_learning_rate(learning_rate)

    def build(self, variables):
        """Numbers the variables, once.

        Keras 2 calls build in each step with the variables that have a gradient, and would number
        them anew: a missing gradient would shift the slots and exclusions of all that follow.
        """
        if not KERAS_3 and getattr(self, "_built", False):
            return
        super().build(variables)
        self._built = True

    def add_slots(self, variables, name: str) -> list:
        """Creates a zero variable beside each variable."""
        if KERAS_3:
            return [self.add_variable_from_reference(v, name=name) for v in variables]
        return [self.add_variable_from_reference(v, variable_name=name) for v in variables]

    def update_step(self, gradient, variable, learning_rate=None):
        if KERAS_3:
            position = self._get_variable_index(variable)
        else:
            position = self._index_dict[self._var_key(variable)]
            learning_rate = self.learning_rate
        learning_rate = tf.cast(learning_rate, variable.dtype)
        self.update(gradient, variable, position, learning_rate)

    def learning_rate_config(self):
        """What get_config stores for the learning rate: a number, or a serialised schedule."""
        if KERAS_3:
            return super().get_config()["learning_rate"]
        config = self._serialize_hyperparameter(self._learning_rate)
        return config if isinstance(config, dict) else float(config)
