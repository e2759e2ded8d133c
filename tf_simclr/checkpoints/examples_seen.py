"""Counts the examples that a run has seen, which cannot be derived from the step.

A run may be resumed with another batch size. The number of examples then differs from step * batch
size, and the input pipeline must know where to resume.
"""

import tensorflow as tf


class ExamplesSeen:
    """Counts the training examples that a run has seen. Checkpoints store the count.

    Attributes:
      batch_size: examples per step from now on.
      variable: int64 (), the count that a checkpoint stores; `store` sets it.
    """

    def __init__(self, batch_size: int, *, batch_size_before: int | None = None):
        """Starts with no examples at step 0.

        Args:
          batch_size: examples per step from now on.
          batch_size_before: examples per step until now. It is used for a checkpoint of an earlier
            version, which lacks the count. None for batch_size.
        """
        self.batch_size = batch_size
        self.variable = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._batch_size_before = batch_size_before or batch_size
        self._step = self._examples = 0

    def count_at(self, step: int) -> int:
        """Returns the number of examples seen when the optimizer has taken `step` steps."""
        return self._examples + (step - self._step) * self.batch_size

    def store(self, step: int) -> None:
        """Sets the variable before a checkpoint of this step is saved."""
        self.variable.assign(self.count_at(step))

    def resume(self, step: int, *, from_variable: bool) -> None:
        """Resumes from a restored checkpoint.

        Args:
          step: step of the checkpoint.
          from_variable: whether the checkpoint had the count, which is then in the variable.

        Raises:
          ValueError: the number is negative.
        """
        examples = step * self._batch_size_before
        if from_variable:
            examples = int(self.variable.numpy())
        if examples < 0:
            raise ValueError(f"the number of examples seen is negative, {examples}")
        self._step, self._examples = step, examples
