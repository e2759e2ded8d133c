"""The number of examples that a run has seen, which the step alone does not tell.

A run may be resumed with another batch size. The number of examples then differs from the step
times the batch size, and the input pipeline must know where to go on.
"""

import tensorflow as tf


class ExamplesSeen:
    """Counts the training examples that a run has seen. Checkpoints hold the number.

    Attributes:
      batch_size: examples of a step from now on.
      variable: int64 (), what a checkpoint holds; `store` sets it.
    """

    def __init__(self, batch_size: int, *, batch_size_before: int | None = None):
        """Starts with no examples at step 0.

        Args:
          batch_size: examples of a step from now on.
          batch_size_before: examples of a step until now, for a checkpoint of an earlier version
            that does not hold the number of examples; None for batch_size.
        """
        self.batch_size = batch_size
        self.variable = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._batch_size_before = batch_size_before or batch_size
        self._step = self._examples = 0

    def at(self, step: int) -> int:
        """Returns the number of examples seen when the optimizer has taken `step` steps."""
        return self._examples + (step - self._step) * self.batch_size

    def store(self, step: int) -> None:
        """Sets the variable before a checkpoint of this step is saved."""
        self.variable.assign(self.at(step))

    def resume(self, step: int, *, from_variable: bool) -> None:
        """Goes on from a restored checkpoint.

        Args:
          step: step of the checkpoint.
          from_variable: whether the checkpoint held the number, which the variable then has.

        Raises:
          ValueError: the number is negative.
        """
        examples = step * self._batch_size_before
        if from_variable:
            examples = int(self.variable.numpy())
        if examples < 0:
            raise ValueError(f"the number of examples seen is negative, {examples}")
        self._step, self._examples = step, examples
