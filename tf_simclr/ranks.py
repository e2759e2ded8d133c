"""The rank of the right class among the scores. Ties are no hits."""

import tensorflow as tf


def rank(scores: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """How many classes score at least as high as the right one: 0 for a clear first.

    The right class is the worst among equals. Else a head of zeros or a collapsed encoder, all of
    whose scores are equal, would be right about everything. NaN is worse than any score.

    Args:
      scores: (n, classes).
      classes: integers (n,), the right ones, in [0, classes).

    Returns:
      int32 (n,).
    """
    own = tf.gather(scores, classes, batch_dims=1)[:, tf.newaxis]
    # Counts the right class itself, and all where a comparison with NaN is False.
    not_below = tf.logical_not(scores < own)
    return tf.reduce_sum(tf.cast(not_below, tf.int32), axis=1) - 1
