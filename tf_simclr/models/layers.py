"""The layers that the ResNet and the heads are made of.

Each function takes a Keras tensor and returns one; the layers it makes carry dotted names
("block1.conv2") from which the stable variable paths of `simclr.SimCLR` are made. Layers compute in
the type of their input (`policy_of`), and all that a model needs to be told is that of its images.
"""

import dataclasses

import keras
import tensorflow as tf

from tf_simclr.models.batch_norm import BatchNorm
from tf_simclr.precision import HALF, at_least_float32, policy_of

# On CPUs with AVX-512, oneDNN's kernel for the filter gradient of a strided 1x1 convolution writes
# past its scratchpad where there are fewer input channels than this, and large images (56x56 with
# TensorFlow 2.15 and 2.21) end the process. Thin networks subsample first: the same numbers.
ONEDNN_SAFE_CHANNELS = 16


@dataclasses.dataclass(frozen=True)
class BatchNormSettings:
    """How every batch normalisation of a model works.

    Attributes:
      momentum: decay of the moving averages (the flag batch_norm_decay).
      synchronized: statistics over all replicas (the flag global_bn).
      fused: one operation in float32, too, as `BatchNorm` has it (the flag fused_batch_norm).
    """

    momentum: float = 0.9
    synchronized: bool = True
    fused: bool = False


def activation(x, kind: str, name: str):
    """An activation function by its Keras name."""
    return keras.layers.Activation(kind, name=name, dtype=policy_of(x))(x)


def batch_norm(
    x, name: str, settings: BatchNormSettings, *, relu=True, center=True, zero_gamma=False
):
    """Batch normalisation (epsilon 1e-5) and, where asked for, ReLU."""
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


def conv(x, name: str, *, filters: int, kernel_size: int, strides: int = 1, use_bias=False):
    """Convolution whose padding does not depend on the input's size.

    Strided kernels pad (k-1)//2 before and the rest after, then use VALID, so that the same weights
    see the same neighbourhoods at every image size (official code, conv2d_fixed_padding).
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


def subsample(x, name: str, strides: int):
    """Keeps every `strides`-th row and column, as a strided 1x1 convolution would read them."""
    return keras.layers.AveragePooling2D(1, strides, name=name, dtype=policy_of(x))(x)


def fixed_padding(x, name: str, kernel_size: int):
    """Zero padding by kernel_size - 1 in all: (kernel_size - 1) // 2 before, the rest after."""
    before = (kernel_size - 1) // 2
    after = kernel_size - 1 - before
    if before == after == 0:
        return x
    return keras.layers.ZeroPadding2D(
        ((before, after), (before, after)), name=name, dtype=policy_of(x)
    )(x)


def global_pool(x, name: str):
    """Mean over the pixels, in at least float32: (b, h, w, c) -> (b, 1, 1, c)."""
    dtype = "float32" if tf.as_dtype(x.dtype).name in HALF else policy_of(x)
    return keras.layers.GlobalAveragePooling2D(keepdims=True, name=name, dtype=dtype)(x)


def squeeze_excitation(x, name: str, *, filters: int, ratio: float):
    """Squeeze-and-excitation gate on the channels (arXiv:1709.01507), biases on.

    The reduction is to max(1, int(filters * ratio)), where filters is the block's base width.
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
    """Scales each channel: [gate (b, 1, 1, c), x (b, h, w, c)] -> (b, h, w, c), of x's type.

    In at least float32: the gate's gradient is a sum over all pixels.
    """

    def call(self, inputs):
        gate, x = inputs
        return tf.cast(at_least_float32(gate) * at_least_float32(x), x.dtype)


@keras.utils.register_keras_serializable("tf_simclr")
class StreamSum(keras.layers.Layer):
    """Sum of the two halves of the channels: (b, h, w, 2c) -> (b, h, w, c)."""

    def call(self, streams):
        first, second = tf.split(streams, 2, axis=-1)
        return first + second


@keras.utils.register_keras_serializable("tf_simclr")
class StreamMix(keras.layers.Layer):
    """Mixes two streams by a softmax over the streams, channel by channel.

    Call with [streams (b, h, w, 2c), logits (b, 1, 1, 2c)]; returns (b, h, w, c), of the streams'
    type. In at least float32: the logits' gradient is a sum over all pixels.
    """

    def call(self, inputs):
        dtype = inputs[0].dtype
        streams, logits = map(at_least_float32, inputs)
        first, second = tf.split(streams, 2, axis=-1)
        weights = tf.nn.softmax(tf.stack(tf.split(logits, 2, axis=-1)), axis=0)
        return tf.cast(weights[0] * first + weights[1] * second, dtype)


def selective_kernel(
    x, name: str, *, filters: int, strides: int, ratio: float, bn: BatchNormSettings
):
    """Selective-kernel 3x3 convolution with BN-ReLU (arXiv:1903.06586 as simplified in SimCLRv2).

    Two streams come from one convolution of twice the width; their pooled sum decides by a small
    bottleneck of max(int(filters * ratio), 32) channels how each channel mixes the two.
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
