"""Distillation: the student learns the teacher's class probabilities (SimCLRv2, section 2)."""

import tensorflow as tf

from tf_simclr.precision import at_least_float32
from tf_simclr.ranks import rank


def distillation(
    student_logits: tf.Tensor, teacher_logits: tf.Tensor, *, temperature: float
) -> dict[str, tf.Tensor]:
    """Mean cross-entropy between both's class probabilities at a temperature (equation 2).

    Both are softmax(logits / temperature); no gradient flows into the teacher. There is no factor
    of temperature^2, as there is none in the paper: gradients fall with 1 / temperature.

    Args:
      student_logits: (n, classes).
      teacher_logits: (n, classes).
      temperature: greater than 0.

    Returns:
      distill_loss, (); teacher_agreement, (): the share of images on which both have the same
      first class.
    """
    student, teacher = at_least_float32(student_logits), at_least_float32(teacher_logits)
    target = tf.stop_gradient(tf.nn.softmax(teacher / temperature))
    loss = tf.nn.softmax_cross_entropy_with_logits(target, student / temperature)
    first = tf.argmax(teacher, axis=1)
    # Neither must have another class that is as likely.
    same = tf.equal(rank(student, first) + rank(teacher, first), 0)
    return {
        "distill_loss": tf.reduce_mean(loss),
        "teacher_agreement": tf.reduce_mean(tf.cast(same, tf.float32)),
    }
