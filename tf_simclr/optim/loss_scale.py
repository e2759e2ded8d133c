"""Dynamic loss scaling, because small gradients vanish in float16 (arXiv:1710.03740).

The backward pass computes the gradients of scale * loss. The gradients are divided by the scale
when they are float32 again. If a gradient is not finite, the scale was too large: the step then
changes no weight and halves the scale. It still counts as a step for the learning rate, the random
numbers and the data.
"""

from collections.abc import Callable

import tensorflow as tf

SMALLEST, INITIAL, LARGEST = 1.0, 2.0**15, 2.0**24
STEPS_BEFORE_DOUBLING = 2000


class LossScale:
    """The scale of the loss, the same on all replicas.

    Attributes:
      variables: {name: variable}; a run must save them to resume exactly.
    """

    def __init__(self, *, steps_before_doubling: int = STEPS_BEFORE_DOUBLING):
        """Makes the variables. Call it in the scope of the strategy, if there is one.

        Args:
          steps_before_doubling: the scale doubles after this many finite steps in a row.
        """
        self._steps_before_doubling = steps_before_doubling
        self._scale = _variable(INITIAL, tf.float32)
        self._finite_steps = _variable(0, tf.int64)
        self.variables = {"scale": self._scale, "finite_steps": self._finite_steps}

    def read(self) -> tf.Tensor:
        """Returns the scale of this step, ()."""
        return tf.identity(self._scale)

    def apply_if_finite(self, gradients: list, apply: Callable, skip: Callable) -> tf.Tensor:
        """Applies finite gradients or skips the step, and adapts the scale.

        Args:
          gradients: tensors, the same on every replica, with the scale divided out.
          apply: called on each replica with the list of gradients if all of them are finite.
          skip: called on each replica without arguments if not.

        Returns:
          Whether all gradients are finite, ().
        """
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])

        def decide(strategy: tf.distribute.Strategy, finite, *gradients):
            # Optimizers may communicate between replicas, which is impossible in a branch inside
            # one replica. So the branch is taken here, outside of the replicas.
            finite = strategy.experimental_local_results(finite)[0]

            def applied():
                strategy.run(lambda *local: _done(apply(list(local))), args=gradients)
                return tf.constant(0)

            def skipped():
                strategy.run(lambda: _done(skip()))
                return tf.constant(0)

            tf.cond(finite, applied, skipped)
            self._adapt(finite)

        tf.distribute.get_replica_context().merge_call(decide, args=(finite, *gradients))
        return finite

    def _adapt(self, finite):
        scale = tf.convert_to_tensor(self._scale)
        count = tf.convert_to_tensor(self._finite_steps) + 1
        double = count >= self._steps_before_doubling
        larger = tf.where(double, tf.minimum(2 * scale, LARGEST), scale)
        smaller = tf.maximum(scale / 2, SMALLEST)
        self._scale.assign(tf.where(finite, larger, smaller))
        self._finite_steps.assign(tf.where(finite & ~double, count, 0))


def _variable(value, dtype) -> tf.Variable:
    return tf.Variable(
        value,
        dtype=dtype,
        trainable=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def _done(_) -> tf.Tensor:
    """Returns a tensor, because strategy.run accepts no other result."""
    return tf.constant(0)
