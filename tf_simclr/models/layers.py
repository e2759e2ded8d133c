"""The layers of the ResNet and the heads.

Each function takes a Keras tensor and returns one. Its layers have dotted names ("block1.conv2"),
from which `simclr.SimCLR` makes stable variable paths. Each layer computes in the type of its input
(`policy_of`), so the type of the images determines the types of all layers.
"""

import dataclasses

import keras
import tensorflow as tf

from tf_simclr.models.batch_norm import BatchNorm
from tf_simclr.precision import HALF, at_least_float32, policy_of

# With fewer input channels than this, oneDNN's AVX-512 kernel for the filter gradient of a strided
# 1x1 convolution writes beyond its scratchpad. Large images then crash the process (56x56, on
# TensorFlow 2.15 and 2.21). Thin networks subsample before the convolution, with the same result.
ONEDNN_SAFE_CHANNELS = 16


@dataclasses.dataclass(frozen=True)
class BatchNormSettings:
    """Settings of every batch normalization of a model.

    Attributes:
      momentum: decay of the moving averages (flag batch_norm_decay).
      synchronized: whether the statistics cover all replicas (flag global_bn).
      fused: whether float32 training runs one fused operation (`BatchNorm`, flag fused_batch_norm).
    """

    momentum: float = 0.9
    synchronized: bool = True
    fused: bool = True


def activation(x: tf.Tensor, kind: str, name: str) -> tf.Tensor:
    """Applies the activation function of this Keras name."""
    return keras.layers.Activation(kind, name=name, dtype=policy_of(x))(x)


def batch_norm(
    x: tf.Tensor,
    name: str,
    settings: BatchNormSettings,
    *,
    relu: bool = True,
    center: bool = True,
    zero_gamma: bool = False,
) -> tf.Tensor:
    """Applies batch normalization (epsilon 1e-5), then ReLU unless relu=False."""
    x = BatchNorm(
        momentum=settings.momentum,
        epsilon=1e-5,
        center=center,
        gamma_initializer="zeros" if zero_gamma else "ones",
        synchronized=settings.synchronized,
        fused_in_float32=settings.fused,
        name=f"{name}.bn",
        dtype=policy_of(x),
    )(x)
    return activation(x, "relu", f"{name}.relu") if relu else x


def conv(
    x: tf.Tensor,
    name: str,
    *,
    filters: int,
    kernel_size: int,
    strides: int = 1,
    use_bias: bool = False,
) -> tf.Tensor:
    """Applies a convolution whose padding does not depend on the size of the input.

    A strided convolution pads (k-1)//2 before and the rest after, then computes without padding.
    The same weights then see the same neighborhoods at every image size (official code,
    conv2d_fixed_padding).
    """
    padding = "same"
    if kernel_size == 1 and strides > 1 and x.shape[-1] < ONEDNN_SAFE_CHANNELS:
        x = subsample(x, f"{name}.subsample", strides)
        strides = 1
    if strides > 1:
        x = fixed_padding(x, f"{name}.pad", kernel_size)
        padding = "valid"
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding=padding,
        use_bias=use_bias,
        kernel_initializer=keras.initializers.VarianceScaling(),
        name=name,
        dtype=policy_of(x),
    )(x)


def subsample(x: tf.Tensor, name: str, strides: int) -> tf.Tensor:
    """Keeps every `strides`-th row and column, as a strided 1x1 convolution does."""
    return keras.layers.AveragePooling2D(1, strides, name=name, dtype=policy_of(x))(x)


def fixed_padding(x: tf.Tensor, name: str, kernel_size: int) -> tf.Tensor:
    """Pads kernel_size - 1 zeros: (kernel_size - 1) // 2 before, the rest after."""
    before = (kernel_size - 1) // 2
    after = kernel_size - 1 - before
    if before == after == 0:
        return x
    return keras.layers.ZeroPadding2D(
        ((before, after), (before, after)), name=name, dtype=policy_of(x)
    )(x)


def global_pool(x: tf.Tensor, name: str) -> tf.Tensor:
    """Averages over the pixels in at least float32: (n, h, w, c) -> (n, 1, 1, c)."""
    dtype = "float32" if tf.as_dtype(x.dtype).name in HALF else policy_of(x)
    return keras.layers.GlobalAveragePooling2D(keepdims=True, name=name, dtype=dtype)(x)


def squeeze_excitation(x: tf.Tensor, name: str, *, filters: int, ratio: float) -> tf.Tensor:
    """Applies squeeze-and-excitation to the channels (arXiv:1709.01507), with biases.

    The bottleneck has max(1, int(filters * ratio)) channels, where filters is the base width of the
    block.
    """
    channels = x.shape[-1]
    gate = global_pool(x, f"{name}.pool")
    reduced = max(1, int(filters * ratio))
    gate = conv(gate, f"{name}.reduce", filters=reduced, kernel_size=1, use_bias=True)
    gate = activation(gate, "relu", f"{name}.relu")
    gate = conv(gate, f"{name}.expand", filters=channels, kernel_size=1, use_bias=True)
    gate = activation(gate, "sigmoid", f"{name}.sigmoid")
    return ChannelGate(name=f"{name}.scale", dtype=policy_of(x), autocast=False)([gate, x])


@keras.utils.register_keras_serializable("tf_simclr")
class ChannelGate(keras.layers.Layer):
    """Scales each channel: [gate (n, 1, 1, c), x (n, h, w, c)] -> (n, h, w, c) in the type of x.

    Computes in at least float32, because the gradient of the gate is a sum over all pixels.
    """

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Multiplies the gate and x."""
        gate, x = inputs
        return tf.cast(at_least_float32(gate) * at_least_float32(x), x.dtype)


@keras.utils.register_keras_serializable("tf_simclr")
class StreamSum(keras.layers.Layer):
    """Adds the two halves of the channels: (n, h, w, 2c) -> (n, h, w, c)."""

    def call(self, streams: tf.Tensor) -> tf.Tensor:
        """Adds the two streams."""
        first, second = tf.split(streams, 2, axis=-1)
        return first + second


@keras.utils.register_keras_serializable("tf_simclr")
class StreamMix(keras.layers.Layer):
    """Mixes two streams by a softmax over the streams, channel by channel.

    [streams (n, h, w, 2c), logits (n, 1, 1, 2c)] -> (n, h, w, c) in the type of the streams.
    Computes in at least float32, because the gradient of the logits is a sum over all pixels.
    """

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Adds the streams, weighted by the softmax of the logits."""
        dtype = inputs[0].dtype
        streams, logits = map(at_least_float32, inputs)
        first, second = tf.split(streams, 2, axis=-1)
        weights = tf.nn.softmax(tf.stack(tf.split(logits, 2, axis=-1)), axis=0)
        return tf.cast(weights[0] * first + weights[1] * second, dtype)


def selective_kernel(
    x: tf.Tensor, name: str, *, filters: int, strides: int, ratio: float, bn: BatchNormSettings
) -> tf.Tensor:
    """Applies a selective-kernel 3x3 convolution with BN and ReLU (arXiv:1903.06586, SimCLRv2).

    One convolution of twice the width computes two streams, a simplification of SimCLRv2. Their
    pooled sum passes through a bottleneck of max(int(filters * ratio), 32) channels. Its output
    decides how each channel mixes the streams.
    """
    streams = conv(x, f"{name}.conv", filters=2 * filters, kernel_size=3, strides=strides)
    streams = batch_norm(streams, f"{name}.conv", bn)
    pooled = StreamSum(name=f"{name}.sum", dtype=policy_of(streams))(streams)
    pooled = global_pool(pooled, f"{name}.pool")
    reduced = max(int(filters * ratio), 32)
    logits = conv(pooled, f"{name}.reduce", filters=reduced, kernel_size=1)
    logits = batch_norm(logits, f"{name}.reduce", bn)
    logits = conv(logits, f"{name}.expand", filters=2 * filters, kernel_size=1)
    mix = StreamMix(name=f"{name}.mix", dtype=policy_of(streams), autocast=False)
    return mix([streams, logits])
