"""Dtypes of computations: half precision on request, float32 where it is needed."""

import tensorflow as tf

HALF = ("bfloat16", "float16")


def policy_of(x: tf.Tensor) -> str:
    """Returns the dtype policy of a layer that computes in the type of the Keras tensor x.

    Its weights are at least float32.
    """
    dtype = tf.as_dtype(x.dtype).name
    return f"mixed_{dtype}" if dtype in HALF else dtype


def at_least_float32(tensor: tf.Tensor) -> tf.Tensor:
    """Casts to float32, but keeps float64. Losses are not computed in half precision."""
    tensor = tf.convert_to_tensor(tensor)
    return tensor if tensor.dtype == tf.float64 else tf.cast(tensor, tf.float32)
