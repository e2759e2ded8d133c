"""The only module that distinguishes Keras 2 (TensorFlow 2.15) and Keras 3 (2.16 or later)."""

import warnings
from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from tf_simclr.errors import ConfigError

LearningRate: TypeAlias = float | keras.optimizers.schedules.LearningRateSchedule
KERAS_3 = int(keras.__version__.split(".")[0]) >= 3


def tf_variable(variable: Any) -> tf.Variable:
    """Returns the tf.Variable behind a Keras variable. In Keras 2 they are the same."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def apply_gradients(
    optimizer: keras.optimizers.Optimizer, gradients_and_variables: Sequence[tuple]
) -> None:
    """Applies gradients that are already summed over the replicas.

    By default both versions of Keras would sum them again. Keras 2 has an argument that prevents
    it, its legacy optimizers have another argument, and in Keras 3 a method must be replaced.

    Args:
      optimizer: an optimizer that is built for the variables.
      gradients_and_variables: (gradient, variable) pairs.
    """
    if KERAS_3:
        optimizer._all_reduce_sum_gradients = lambda summed: summed
        gradients, variables = zip(*gradients_and_variables, strict=True)
        optimizer.apply(list(gradients), list(variables))
    elif isinstance(optimizer, keras.optimizers.legacy.Optimizer):
        optimizer.apply_gradients(gradients_and_variables, experimental_aggregate_gradients=False)
    else:
        optimizer.apply_gradients(gradients_and_variables, skip_gradients_aggregation=True)


def lamb(learning_rate: LearningRate) -> keras.optimizers.Optimizer:
    """Makes the LAMB optimizer (arXiv:1904.00962) of Keras 3, or of tensorflow-addons on Keras 2.

    Both have the same equations and constants, and adapt every variable.

    Args:
      learning_rate: a number or a LearningRateSchedule.

    Raises:
      ConfigError: Keras 2 needs tensorflow-addons, which is not installed.
    """
    constants = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-6}
    if KERAS_3:
        return keras.optimizers.Lamb(learning_rate, **constants)
    try:
        with warnings.catch_warnings():  # the package warns that it is no longer maintained
            warnings.simplefilter("ignore")
            import tensorflow_addons
    except ImportError as error:
        raise ConfigError(
            "optimizer lamb needs tensorflow-addons with Keras 2, and it is not installed: "
            "pip install tensorflow-addons==0.23.0, or choose another optimizer"
        ) from error

    class Lamb(tensorflow_addons.optimizers.LAMB):
        """The legacy optimizer, with the attributes of current Keras 2 optimizers that we need."""

        def build(self, variables: Sequence) -> None:
            """Creates the slots."""
            self._create_all_weights(variables)
            self.momentums = [self.get_slot(v, "m") for v in variables]
            self.velocities = [self.get_slot(v, "v") for v in variables]

    return Lamb(learning_rate, **constants)


SLOTS = {"momentum": ("momentums", "_momentums"), "velocity": ("velocities", "_velocities")}


def optimizer_slots(optimizer: keras.optimizers.Optimizer) -> dict[str, list]:
    """Returns {slot name: its variables}, in the order of the variables given to `build`."""
    slots_by_name: dict[str, list] = {}
    for name, attributes in SLOTS.items():
        for attribute in attributes:
            if slots := getattr(optimizer, attribute, None):
                slots_by_name[name] = list(slots)
                break
    known = sum(len(slots) for slots in slots_by_name.values())
    variables = optimizer.variables
    variables = variables() if callable(variables) else variables  # a method in legacy optimizers
    counters = 2  # iterations, and the learning rate if it is constant
    assert len(variables) - known <= counters, f"{optimizer} has slots of unknown names"
    return slots_by_name


class SlotOptimizer(keras.optimizers.Optimizer):
    """Base class of optimizers with slots that work with both versions of Keras.

    A subclass implements `build`, which calls `super().build` and then `add_slots`, and `update`.
    """

    def __init__(self, learning_rate: LearningRate, name: str, **kwargs: Any):
        """Makes the optimizer.

        Args:
          learning_rate: a number or a LearningRateSchedule.
          name: name of the optimizer.
          **kwargs: arguments of keras.optimizers.Optimizer.
        """
        if KERAS_3:
            super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        else:
            # XLA compilation is decided for the training step, not for its optimizer.
            kwargs.setdefault("jit_compile", False)
            super().__init__(name=name, **kwargs)
            self._learning_rate = self._build_learning_rate(learning_rate)

    def build(self, variables: Sequence) -> None:
        """Numbers the variables in the first call. Later calls do nothing.

        Keras 2 calls build in every step with the variables that have a gradient. If it numbered
        them again, a missing gradient would shift the slots and exclusions of later variables.
        """
        if not KERAS_3 and getattr(self, "_built", False):
            return
        super().build(variables)
        self._built = True

    def add_slots(self, variables: Sequence, name: str) -> list:
        """Creates a slot of zeros for each variable."""
        if KERAS_3:
            return [self.add_variable_from_reference(v, name=name) for v in variables]
        return [self.add_variable_from_reference(v, variable_name=name) for v in variables]

    def update(
        self, gradient: tf.Tensor, variable: tf.Variable, position: int, learning_rate: tf.Tensor
    ) -> None:
        """Updates a variable and its slots.

        Args:
          gradient: the variable's gradient.
          variable: one of the variables given to `build`.
          position: its index in that list.
          learning_rate: the learning rate of this step, ().
        """
        raise NotImplementedError

    def update_step(
        self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor | None = None
    ) -> None:
        """Calls `update`. Keras 3 passes the learning rate, Keras 2 does not."""
        if KERAS_3:
            position = self._get_variable_index(variable)
        else:
            position = self._index_dict[self._var_key(variable)]
            learning_rate = self.learning_rate
        learning_rate = tf.cast(learning_rate, variable.dtype)
        self.update(gradient, variable, position, learning_rate)

    def learning_rate_config(self) -> float | dict:
        """Returns the learning rate for get_config: a number, or a serialized schedule."""
        if KERAS_3:
            return super().get_config()["learning_rate"]
        config = self._serialize_hyperparameter(self._learning_rate)
        return config if isinstance(config, dict) else float(config)
