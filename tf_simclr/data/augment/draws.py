"""Draws random numbers that are the same on every device."""

from collections.abc import Sequence

import tensorflow as tf


def uniform(shape: Sequence, seed: tf.Tensor) -> tf.Tensor:
    """Draws floats in [0, 1), the same on every device, with XLA and without.

    Under XLA, stateless_uniform makes floats from other bits of the same Philox number (tensorflow
    issue 117644), but its integers are the same. This function returns the floats that
    stateless_uniform draws without XLA.

    Args:
      shape: shape of the result.
      seed: integers (2,).
    """
    bits = tf.random.stateless_uniform(
        shape, seed, minval=None, maxval=None, dtype=tf.int32, alg="philox"
    )
    mantissa = tf.bitwise.bitwise_and(bits, 2**23 - 1)
    return tf.cast(mantissa, tf.float32) * 2.0**-23
