"""Distillation: the student learns the teacher's class probabilities (SimCLRv2, section 2)."""

import tensorflow as tf

from tf_simclr.precision import at_least_float32
from tf_simclr.ranks import rank


def distillation(
    student_logits: tf.Tensor, teacher_logits: tf.Tensor, *, temperature: float
) -> dict[str, tf.Tensor]:
    """Computes the mean cross-entropy between the teacher's and the student's class probabilities.

    Both probabilities are softmax(logits / temperature), as in equation 2 of the paper. No gradient
    flows into the teacher. As in the paper, the loss has no factor of temperature^2, so at high
    temperatures gradients shrink as 1 / temperature^2.

    Args:
      student_logits: (n, classes).
      teacher_logits: (n, classes).
      temperature: > 0.

    Returns:
      distill_loss (): the cross-entropy in nats.
      teacher_agreement (): share of images on which both score the same class highest.
    """
    student, teacher = at_least_float32(student_logits), at_least_float32(teacher_logits)
    target = tf.stop_gradient(tf.nn.softmax(teacher / temperature))
    loss = tf.nn.softmax_cross_entropy_with_logits(target, student / temperature)
    teacher_class = tf.argmax(teacher, axis=1)
    # A tie for the highest score does not count as agreement.
    agreement = tf.equal(rank(student, teacher_class) + rank(teacher, teacher_class), 0)
    return {
        "distill_loss": tf.reduce_mean(loss),
        "teacher_agreement": tf.reduce_mean(tf.cast(agreement, tf.float32)),
    }
