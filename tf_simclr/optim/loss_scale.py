"""Dynamic scaling of the loss, without which small gradients vanish in float16 (arXiv:1710.03740).

The gradients of scale * loss are divided by the scale once they are float32 again. Where one of
them is not finite, the scale was too large: the step changes no weight, and the scale is halved.
Such a step counts as any other, so that learning rate, random numbers and data go on.
"""

from collections.abc import Callable

import tensorflow as tf

SMALLEST, INITIAL, LARGEST = 1.0, 2.0**15, 2.0**24
STEPS_BEFORE_DOUBLING = 2000


class LossScale:
    """The scale, the same on all replicas.

    Attributes:
      variables: {name: variable} of all that a run must save to go on exactly.
    """

    def __init__(self, *, steps_before_doubling: int = STEPS_BEFORE_DOUBLING):
        """Makes the variables, in a strategy's scope if there is one.

        Args:
          steps_before_doubling: finite steps, one after the other, after which the scale doubles.
        """
        self._steps_before_doubling = steps_before_doubling
        self._scale = _variable(INITIAL, tf.float32)
        self._finite_steps = _variable(0, tf.int64)
        self.variables = {"scale": self._scale, "finite_steps": self._finite_steps}

    def read(self) -> tf.Tensor:
        """The scale of this step, ()."""
        return tf.identity(self._scale)

    def apply_if_finite(self, gradients: list, apply: Callable, skip: Callable) -> tf.Tensor:
        """Calls apply(gradients) on each replica if all are finite, else skip(); then adapts.

        Args:
          gradients: tensors, the same on every replica; without the scale.
          apply: function of such a list.
          skip: function without arguments.

        Returns:
          Whether all were finite, ().
        """
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])

        def decide(strategy, finite, *gradients):
            # An optimizer may meet the other replicas, which it cannot in a branch of a replica.
            finite = strategy.experimental_local_results(finite)[0]

            def applied():
                strategy.run(lambda *own: _done(apply(list(own))), args=gradients)
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
    """What a replica returns, as strategies want tensors."""
    return tf.constant(0)
