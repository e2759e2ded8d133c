"""LARS, layer-wise adaptive rate scaling (arXiv:1708.03888), as in the official code."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_simclr import compat


@keras.utils.register_keras_serializable("tf_simclr")
class LARS(compat.SlotOptimizer):
    """SGD with momentum that scales the step of each variable by eeta * |w| / |g|.

    Per variable w with gradient g and momentum slot v:
      g += weight_decay * w;  trust = eeta * |w| / |g|, or 1 if either norm is 0
      classic momentum:  v = momentum * v + lr * trust * g;  w -= v
      popular momentum:  v = momentum * v + g;  trust uses the norm of the update instead of |g|;
                         w -= lr * trust * v
    Nesterov momentum applies the update one step of momentum ahead.

    The optimizer identifies variables by their position in the list given to `build`, because Keras
    3 has no unique variable names. `optim.policy` computes the positions from the layers.

    Example:
      >>> import keras
      >>> from tf_simclr import LARS
      >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
      >>> biases = [i for i, w in enumerate(model.trainable_variables) if len(w.shape) == 1]
      >>> optimizer = LARS(
      ...     1.0,
      ...     weight_decay=1e-6,
      ...     exclude_from_weight_decay=biases,
      ...     exclude_from_layer_adaptation=biases,
      ... )
      >>> optimizer.build(model.trainable_variables)
    """

    def __init__(
        self,
        learning_rate: compat.LearningRate = 0.3,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eeta: float = 0.001,
        use_nesterov: bool = False,
        classic_momentum: bool = True,
        exclude_from_weight_decay: Sequence[int] = (),
        exclude_from_layer_adaptation: Sequence[int] = (),
        **kwargs: Any,
    ):
        """Makes the optimizer.

        Args:
          learning_rate: a number or a Keras LearningRateSchedule.
          momentum: in [0, 1).
          weight_decay: weight_decay * w is added to the gradient of w.
          eeta: the trust coefficient.
          use_nesterov: whether to use Nesterov momentum.
          classic_momentum: True multiplies the gradient by the learning rate before it is added to
            the slot (paper); False multiplies the slot when it is applied ("popular").
          exclude_from_weight_decay: positions of variables that do not decay.
          exclude_from_layer_adaptation: positions of variables whose trust ratio is always 1.
          **kwargs: arguments of keras.optimizers.Optimizer, such as name.
        """
        super().__init__(learning_rate, **({"name": "LARS"} | kwargs))
        self.momentum = momentum
        self.decay = weight_decay  # not `weight_decay`, which Keras would apply as well
        self.eeta = eeta
        self.use_nesterov = use_nesterov
        self.classic_momentum = classic_momentum
        self.exclude_from_weight_decay_at = sorted(exclude_from_weight_decay)
        self.exclude_from_layer_adaptation_at = sorted(exclude_from_layer_adaptation)
        self.momentums: list = []

    def build(self, variables: Sequence) -> None:
        """Creates one slot for each variable.

        Raises:
          ValueError: an excluded position is not in the list.
        """
        super().build(variables)
        if self.momentums:
            return
        excluded = self.exclude_from_weight_decay_at + self.exclude_from_layer_adaptation_at
        if excluded and not 0 <= min(excluded) <= max(excluded) < len(variables):
            raise ValueError(f"{len(variables)} variables, but positions {excluded} are excluded")
        self.momentums = self.add_slots(variables, "momentum")

    def update(
        self, gradient: tf.Tensor, variable: tf.Variable, position: int, learning_rate: tf.Tensor
    ) -> None:
        """Updates one variable and its slot by the formula above."""
        w = tf.convert_to_tensor(variable)
        slot = self.momentums[position]
        v = tf.convert_to_tensor(slot)
        if position not in self.exclude_from_weight_decay_at:
            gradient += self.decay * w
        if self.classic_momentum:
            step = learning_rate * self._trust(w, gradient, position) * gradient
            v = self.momentum * v + step
            update = self.momentum * v + step if self.use_nesterov else v
        else:
            v = self.momentum * v + gradient
            update = self.momentum * v + gradient if self.use_nesterov else v
            update = learning_rate * self._trust(w, update, position) * update
        slot.assign(v)
        variable.assign_sub(update)

    def _trust(self, w, update, position: int):
        if position in self.exclude_from_layer_adaptation_at:
            return 1.0
        w_norm, update_norm = _norm(w), _norm(update)
        either_is_zero = tf.logical_or(w_norm <= 0, update_norm <= 0)
        ratio = tf.math.divide_no_nan(self.eeta * w_norm, update_norm)
        return tf.where(either_is_zero, tf.ones_like(ratio), ratio)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            "name": self.name,
            "learning_rate": self.learning_rate_config(),
            "momentum": self.momentum,
            "weight_decay": self.decay,
            "eeta": self.eeta,
            "use_nesterov": self.use_nesterov,
            "classic_momentum": self.classic_momentum,
            "exclude_from_weight_decay": self.exclude_from_weight_decay_at,
            "exclude_from_layer_adaptation": self.exclude_from_layer_adaptation_at,
        }


def _norm(tensor: tf.Tensor) -> tf.Tensor:
    """Returns the Euclidean norm in one pass; tf.norm would first write all squares to memory."""
    return tf.sqrt(2.0 * tf.nn.l2_loss(tensor))
