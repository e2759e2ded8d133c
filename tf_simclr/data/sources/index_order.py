"""Shuffles examples that are read by index."""

import tensorflow as tf


def shuffled_index(index: tf.Tensor, seed: int | tf.Tensor | None, count: int) -> tf.Tensor:
    """Returns the example indices at positions of a shuffled order.

    Args:
      index: positions in [0, count), int64 of any shape.
      seed: an integer or an int64 scalar; None for 0.
      count: number of examples.
    """
    seed = tf.convert_to_tensor(0 if seed is None else seed, tf.int64)
    halves = tf.cast(tf.stack([seed % 2**31, seed // 2**31]), tf.int32)
    return tf.random.experimental.index_shuffle(index, seed=halves, max_index=count - 1)
