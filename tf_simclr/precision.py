"""Which type computes what: half precision where it is asked for, float32 where it must be."""

import tensorflow as tf

HALF = ("bfloat16", "float16")


def policy_of(x) -> str:
    """Dtype policy of a layer on the Keras tensor x: computes as x is, weights at least float32."""
    dtype = tf.as_dtype(x.dtype).name
    return f"mixed_{dtype}" if dtype in HALF else dtype


def at_least_float32(tensor) -> tf.Tensor:
    """The tensor in float32, or in float64 where it is: losses do without half precision."""
    tensor = tf.convert_to_tensor(tensor)
    return tensor if tensor.dtype == tf.float64 else tf.cast(tensor, tf.float32)
