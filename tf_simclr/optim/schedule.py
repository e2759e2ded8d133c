"""The learning rate over the steps (paper, appendix B.1: linear warm-up, then cosine decay)."""

import math
from typing import Any

import keras
import tensorflow as tf

from tf_simclr.config.choices import SCALINGS


def scaled_learning_rate(learning_rate: float, scaling: str, global_batch_size: int) -> float:
    """Returns the peak learning rate: lr * batch / 256 ("linear") or lr * sqrt(batch) ("sqrt")."""
    if scaling == "linear":
        return learning_rate * global_batch_size / 256.0
    if scaling == "sqrt":
        return learning_rate * math.sqrt(global_batch_size)
    raise ValueError(f"learning_rate_scaling must be one of {SCALINGS}, got {scaling!r}")


def warmup_steps(warmup_epochs: float, num_examples: int, global_batch_size: int) -> int:
    """Returns the number of warm-up steps, rounded down as in the official code."""
    return int(round(warmup_epochs * num_examples // global_batch_size))


def total_steps(
    *, train_steps: int, train_epochs: int, num_examples: int, global_batch_size: int
) -> int:
    """Returns train_steps; if it is 0, the full steps of all epochs plus one (official code)."""
    return train_steps or num_examples * train_epochs // global_batch_size + 1


@keras.utils.register_keras_serializable("tf_simclr")
class WarmUpAndCosineDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from 0 to peak over warmup_steps, then falls to 0 along half a cosine.

    The learning rate is 0 from step `total_steps` on.

    Example:
      >>> from tf_simclr import WarmUpAndCosineDecay
      >>> schedule = WarmUpAndCosineDecay(1.0, warmup_steps=10, total_steps=110)
      >>> [round(float(schedule(step)), 2) for step in (0, 5, 10, 60, 110)]
      [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    def __init__(
        self,
        peak: float = 0.3,
        *,
        total_steps: int,
        warmup_steps: int = 0,
        name: str | None = None,
    ):
        """Makes the schedule. Steps count from 0.

        Args:
          peak: the learning rate at the end of the warm-up, > 0.
          total_steps: > 0, including the warm-up.
          warmup_steps: >= 0.
          name: name of the schedule.

        Raises:
          ValueError: an argument is out of range.
        """
        super().__init__()
        if peak <= 0 or warmup_steps < 0 or total_steps <= 0:
            raise ValueError(
                "need peak > 0, warmup_steps >= 0 and total_steps > 0, "
                f"got {peak}, {warmup_steps} and {total_steps}"
            )
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.name = name

    def __call__(self, step) -> tf.Tensor:
        """Returns the learning rate () float32 of a step () of any integer or float type."""
        step = tf.cast(step, tf.float32)
        rising = step / tf.cast(max(self.warmup_steps, 1), tf.float32) * self.peak
        # A run that is shorter than its warm-up never decays; max keeps the division finite.
        decay_steps = max(self.total_steps - self.warmup_steps, 1)
        progress = tf.clip_by_value((step - self.warmup_steps) / decay_steps, 0.0, 1.0)
        falling = self.peak * 0.5 * (1.0 + tf.cos(math.pi * progress))
        return tf.where(step < self.warmup_steps, rising, falling)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "name": self.name,
        }
