"""Batch normalisation by TensorFlow's fused operation, where statistics are of one replica."""

import keras
import tensorflow as tf

from tf_simclr.devices.replicas import num_replicas
from tf_simclr.precision import HALF


@keras.utils.register_keras_serializable("tf_simclr")
class BatchNorm(keras.layers.BatchNormalization):
    """Keras's layer for channels last, several times as fast.

    The same numbers up to rounding: the batch is normalised, and enters the moving variance, by its
    variance as it is (the sum of squares over n). TensorFlow's fused operation, and with it Keras
    2, would put n/(n-1) times that into the average; the official code and Keras 3 do not.

    One operation reads half-precision inputs, computes in float32 and writes half precision, where
    Keras casts, squares and sums in operations of their own. With `synchronized` on several
    replicas the statistics take collectives, and Keras's own implementation.

    So does training in float32, unless it is asked for: the fused operation is faster and, against
    float64, several times as accurate, but deep networks let that difference grow to more than a
    thousandth, and the official code's numbers come first.
    """

    def __init__(self, *, fused_in_float32: bool = False, **kwargs):
        """Keras's arguments, and fused_in_float32: also train in float32 by one operation."""
        super().__init__(**kwargs)
        self._fused_in_float32 = fused_in_float32

    def get_config(self):
        return super().get_config() | {"fused_in_float32": self._fused_in_float32}

    def call(self, inputs, training=None, mask=None):
        dtype = tf.as_dtype(inputs.dtype).name
        by_batch = training and self.trainable
        fused_dtypes = HALF
        if self._fused_in_float32 or not by_batch:
            fused_dtypes += ("float32",)
        if mask is not None or dtype not in fused_dtypes:
            return super().call(inputs, training=training, mask=mask)
        if not by_batch:
            outputs, *_ = self._fused(inputs, self.moving_mean, self.moving_variance)
            return outputs
        if self.synchronized and num_replicas() > 1:
            return super().call(inputs, training=training)
        outputs, mean, variance = self._fused(inputs)
        n = tf.reduce_prod(tf.cast(tf.shape(inputs)[:-1], variance.dtype))
        variance *= (n - 1) / n
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            old = tf.convert_to_tensor(average)
            average.assign(old * self.momentum + value * (1 - self.momentum))
        return outputs

    def _fused(self, inputs, mean=None, variance=None):
        """Outputs, mean, and the variance times n/(n-1); by the batch where no mean is given."""
        empty = tf.zeros((0,))
        flat = inputs.shape.rank == 2
        if flat:
            inputs = inputs[:, tf.newaxis, tf.newaxis]
        outputs, new_mean, new_variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.zeros_like(self.gamma) if self.beta is None else self.beta,
            mean=empty if mean is None else mean,
            variance=empty if variance is None else variance,
            epsilon=self.epsilon,
            is_training=mean is None,
        )
        return tf.squeeze(outputs, [1, 2]) if flat else outputs, new_mean, new_variance
