"""Batch normalization, by TensorFlow's fused operation if each replica has its own statistics."""

from typing import Any

import keras
import tensorflow as tf

from tf_simclr.devices.replicas import num_replicas
from tf_simclr.precision import HALF


@keras.utils.register_keras_serializable("tf_simclr")
class BatchNorm(keras.layers.BatchNormalization):
    """Computes the same as the Keras layer (channels last), but several times as fast.

    One fused operation reads half precision, computes in float32 and writes half precision. Keras
    casts, squares and sums in separate operations.

    The results equal Keras 3 and the official code up to rounding: the moving variance averages the
    biased variance of each batch (the sum of squares over n). The fused operation returns n/(n-1)
    times the biased variance, which Keras 2 averages uncorrected.

    The Keras implementation still runs in two cases. With `synchronized` on several replicas, the
    statistics need collectives. And without `fused_in_float32`, training in float32 rounds as the
    official code does. The fused operation is faster and no less accurate, but deep networks
    amplify the difference of both to more than a thousandth (docs/performance.md).
    """

    def __init__(self, *, fused_in_float32: bool = True, **kwargs: Any):
        """Makes the layer.

        Args:
          fused_in_float32: whether float32 training also runs the fused operation.
          **kwargs: arguments of keras.layers.BatchNormalization.
        """
        super().__init__(**kwargs)
        self._fused_in_float32 = fused_in_float32

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return super().get_config() | {"fused_in_float32": self._fused_in_float32}

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Normalizes inputs (n, ..., c), in training by the batch's statistics."""
        dtype = tf.as_dtype(inputs.dtype).name
        by_batch = training and self.trainable
        float32_is_fused = self._fused_in_float32 or not by_batch
        fused_dtypes = (*HALF, "float32") if float32_is_fused else HALF
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
        """Normalizes by the given statistics, or by the batch's statistics if they are None.

        Returns:
          outputs (n, ..., c), mean (c,), and variance (c,) times n/(n-1).
        """
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
