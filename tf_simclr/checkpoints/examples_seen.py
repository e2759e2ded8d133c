"""How many examples a run has seen, which steps alone do not tell once the batch size changes."""

import tensorflow as tf


class ExamplesSeen:
    """The number of training examples seen, saved beside the step.

    Attributes:
      variable: int64 () that checkpoints hold; `store` sets it.
    """

    def __init__(self, batch_size: int, *, batch_size_before: int | None = None):
        """Begins at step 0 with none.

        Args:
          batch_size: examples of a step from now on.
          batch_size_before: examples of a step in a checkpoint that does not hold their number, as
            earlier versions wrote it; None for batch_size.
        """
        self.batch_size = batch_size
        self.variable = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._batch_size_before = batch_size_before or batch_size
        self._step = self._examples = 0

    def at(self, step: int) -> int:
        """Returns the number of examples seen when the optimizer has taken `step` steps."""
        return self._examples + (step - self._step) * self.batch_size

    def store(self, step: int):
        """Sets the variable, for a checkpoint of this step."""
        self.variable.assign(self.at(step))

    def restored(self, step: int, *, from_variable: bool):
        """Goes on from a restored checkpoint.

        Args:
          step: of the checkpoint.
          from_variable: whether the checkpoint held the variable, which then has its value.

        Raises:
          ValueError: the value is negative.
        """
        examples = step * self._batch_size_before
        if from_variable:
            examples = int(self.variable.numpy())
        if examples < 0:
            raise ValueError(f"the number of examples seen is negative, {examples}")
        self._step, self._examples = step, examples
