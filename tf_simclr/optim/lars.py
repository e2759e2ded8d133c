"""LARS, layer-wise adaptive rate scaling (arXiv:1708.03888), as the official code has it."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from tf_simclr import compat


@keras.utils.register_keras_serializable("tf_simclr")
class LARS(compat.SlotOptimizer):
    """Momentum SGD whose step on each variable is scaled by eeta * |w| / |g|.

    Per variable w with gradient g and slot v:
      g += weight_decay * w;  trust = eeta * |w| / |g|, or 1 where either norm is 0
      classic momentum:  v = momentum * v + lr * trust * g;  w -= v
      popular momentum:  v = momentum * v + g;  trust is taken from the update's norm;
                         w -= lr * trust * v
    With Nesterov the update looks one step of momentum ahead.

    Variables are told apart by their position in the list given to `build`, because names say
    nothing under Keras 3: `optim.policy` computes the positions from the layers.
    """

    def __init__(
        self,
        learning_rate=0.3,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eeta: float = 0.001,
        use_nesterov: bool = False,
        classic_momentum: bool = True,
        exclude_from_weight_decay: Sequence[int] = (),
        exclude_from_layer_adaptation: Sequence[int] = (),
        name: str = "LARS",
        **kwargs,
    ):
        """Makes the optimizer.

        Args:
          learning_rate: a number or a keras LearningRateSchedule.
          momentum: in [0, 1).
          weight_decay: coefficient of the weights that is added to their gradient.
          eeta: the trust coefficient.
          use_nesterov: look ahead.
          classic_momentum: True: the learning rate enters the slot (paper); False: "popular".
          exclude_from_weight_decay: positions of variables that do not decay.
          exclude_from_layer_adaptation: positions of variables whose trust ratio is always 1.
        """
        super().__init__(learning_rate, name, **kwargs)
        self.momentum = momentum
        self.decay = weight_decay  # Keras would apply an attribute called weight_decay by itself
        self.eeta = eeta
        self.use_nesterov = use_nesterov
        self.classic_momentum = classic_momentum
        self.exclude_from_weight_decay_at = sorted(exclude_from_weight_decay)
        self.exclude_from_layer_adaptation_at = sorted(exclude_from_layer_adaptation)
        self.momentums = None

    def build(self, variables):
        super().build(variables)
        if self.momentums is not None:
            return
        excluded = self.exclude_from_weight_decay_at + self.exclude_from_layer_adaptation_at
        if excluded and not 0 <= min(excluded) <= max(excluded) < len(variables):
            raise ValueError(f"{len(variables)} variables, but positions {excluded} are excluded")
        self.momentums = self.add_slots(variables, "momentum")

    def update(self, gradient, variable, position, learning_rate):
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

    def _trust(self, w, update, position):
        if position in self.exclude_from_layer_adaptation_at:
            return 1.0
        w_norm, update_norm = _norm(w), _norm(update)
        either_is_zero = tf.logical_or(w_norm <= 0, update_norm <= 0)
        ratio = tf.math.divide_no_nan(self.eeta * w_norm, update_norm)
        return tf.where(either_is_zero, tf.ones_like(ratio), ratio)

    def get_config(self):
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


def _norm(tensor):
    """Euclidean norm, in one pass where tf.norm writes the squares down first."""
    return tf.sqrt(2.0 * tf.nn.l2_loss(tensor))
