"""The rank of the correct class among the scores. A tie is not a hit."""

import tensorflow as tf


def rank(scores: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Counts the other classes that score at least as high as the correct class. 0 is a hit.

    Ties count against the correct class. Otherwise a head of zeros or a collapsed backbone, whose
    scores are all equal, would always be correct. A NaN score counts against the correct class.

    Args:
      scores: (n, classes).
      classes: integers (n,), the correct classes, in [0, number of classes).

    Returns:
      int32 (n,).
    """
    correct_score = tf.gather(scores, classes, batch_dims=1)[:, tf.newaxis]
    # Comparisons with NaN are False, so NaN counts. The correct class itself also counts.
    not_below = tf.logical_not(scores < correct_score)
    return tf.reduce_sum(tf.cast(not_below, tf.int32), axis=1) - 1
