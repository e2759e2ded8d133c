"""The rank of the right class among the scores. A tie is not a hit."""

import tensorflow as tf


def rank(scores: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Counts the other classes that score at least as high as the right one. 0 is a hit.

    A tie counts against the right class. Otherwise a head of zeros or a collapsed backbone, whose
    scores are all equal, would always be right. NaN ranks below every score.

    Args:
      scores: (n, classes).
      classes: integers (n,), the right classes, in [0, number of classes).

    Returns:
      int32 (n,).
    """
    right_score = tf.gather(scores, classes, batch_dims=1)[:, tf.newaxis]
    # Comparisons with NaN are False, so they count. The right class itself also counts.
    not_below = tf.logical_not(scores < right_score)
    return tf.reduce_sum(tf.cast(not_below, tf.int32), axis=1) - 1
