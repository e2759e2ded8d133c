"""The learning rate over the steps (paper, appendix B.1: linear warm-up, then cosine decay)."""

import math

import keras
import tensorflow as tf

from tf_simclr.config.choices import SCALINGS


def scaled_learning_rate(learning_rate: float, scaling: str, global_batch_size: int) -> float:
    """The peak learning rate: lr * batch / 256 ("linear") or lr * sqrt(batch) ("sqrt")."""
    if scaling == "linear":
        return learning_rate * global_batch_size / 256.0
    if scaling == "sqrt":
        return learning_rate * math.sqrt(global_batch_size)
    raise ValueError(f"learning_rate_scaling must be one of {SCALINGS}, got {scaling!r}")


def warmup_steps(warmup_epochs: float, num_examples: int, global_batch_size: int) -> int:
    """Steps of warm-up; rounded as in the official code, which floors the steps first."""
    return int(round(warmup_epochs * num_examples // global_batch_size))


def total_steps(
    *, train_steps: int, train_epochs: int, num_examples: int, global_batch_size: int
) -> int:
    """train_steps where given, else the epochs in steps plus one, as in the official code."""
    return train_steps or num_examples * train_epochs // global_batch_size + 1


@keras.utils.register_keras_serializable("tf_simclr")
class WarmUpAndCosineDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from 0 to peak over warmup_steps, then falls to 0 along half a cosine.

    The step `total_steps` is the first with learning rate 0, and it stays there.
    """

    def __init__(self, peak: float, *, warmup_steps: int, total_steps: int, name=None):
        """Args: peak > 0; 0 <= warmup_steps; total_steps > 0. Steps count from 0.

        Raises:
          ValueError: one of them is out of range.
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

    def __call__(self, step):
        """Learning rate () float32 of the step () of any integer or float type."""
        step = tf.cast(step, tf.float32)
        rising = step / tf.cast(max(self.warmup_steps, 1), tf.float32) * self.peak
        # A run that is shorter than its warm-up never decays; 1 keeps the division finite.
        decay_steps = max(self.total_steps - self.warmup_steps, 1)
        progress = tf.clip_by_value((step - self.warmup_steps) / decay_steps, 0.0, 1.0)
        falling = self.peak * 0.5 * (1.0 + tf.cos(math.pi * progress))
        return tf.where(step < self.warmup_steps, rising, falling)

    def get_config(self):
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "name": self.name,
        }
