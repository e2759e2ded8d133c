"""Post-activation ResNet v1 with optional selective kernels and squeeze-and-excitation.

The networks are the same as in resnet.py of the official code: basic blocks for depths 18 and 34,
bottlenecks with the stride on the 3x3 convolution for depths 50 to 200.
"""

import dataclasses

import keras

from tf_simclr.models import layers
from tf_simclr.models.layers import BatchNormSettings
from tf_simclr.precision import policy_of

BLOCKS_PER_GROUP = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
BOTTLENECK_DEPTHS = (50, 101, 152, 200)
# (mean, deviation) of red, green and blue, for images in [0, 1]. The values for ImageNet are
# torchvision's. Those for CIFAR-10 are the statistics of its training images.
NORMALIZATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}


@dataclasses.dataclass(frozen=True)
class Variant:
    """Says where a ResNet follows other programs. The default is the official code's network.

    Attributes:
      max_pool_padding: how the stem pads its max pooling, "same" or "symmetric" (PyTorch).
      input_normalization: "none", or a key of NORMALIZATIONS.
      first_shortcut: "projection" or "identity", in the first block of depths 18 and 34.
    """

    max_pool_padding: str = "same"
    input_normalization: str = "none"
    first_shortcut: str = "projection"


OFFICIAL = Variant()


def stages(
    *,
    depth: int,
    width_multiplier: float = 1.0,
    small_stem: bool = False,
    sk_ratio: float = 0.0,
    se_ratio: float = 0.0,
    variant: Variant = OFFICIAL,
    bn: BatchNormSettings,
    dtype: str | None = None,
) -> list[keras.Model]:
    """Makes the five stages of a ResNet, each a functional model. Call them one after the other.

    Args:
      depth: a key of BLOCKS_PER_GROUP.
      width_multiplier: factor on the usual widths 64, 128, 256, 512; may be a fraction.
      small_stem: True for images up to 32 pixels: one 3x3 convolution with stride 1, no pooling.
      sk_ratio: > 0 for selective kernels and the ResNet-D stem and shortcuts (SimCLRv2).
      se_ratio: > 0 for squeeze-and-excitation.
      variant: where the network follows other programs than the official code.
      bn: settings of every batch normalization.
      dtype: type of the images and of all activations; None for the Keras default, float32.

    Returns:
      [stem, block_group1, ..., block_group4]. The stem maps images (n, h, w, 3) to the pair
      (initial_conv, initial_max_pool). Each block group maps features to features.

    Raises:
      ValueError: the depth is unknown, or has no identity as its first shortcut.
    """
    if depth not in BLOCKS_PER_GROUP:
        raise ValueError(f"resnet_depth must be one of {sorted(BLOCKS_PER_GROUP)}, got {depth}")
    identity = variant.first_shortcut == "identity"
    if identity and depth in BOTTLENECK_DEPTHS:
        raise ValueError(f"first_shortcut must be projection with resnet_depth={depth}")
    width = int(64 * width_multiplier)
    parts = [
        _stem(width, small_stem=small_stem, sk=sk_ratio > 0, variant=variant, bn=bn, dtype=dtype)
    ]
    channels = width
    for i, num_blocks in enumerate(BLOCKS_PER_GROUP[depth]):
        inputs = keras.Input((None, None, channels), dtype=dtype)
        x = inputs
        for b in range(num_blocks):
            block = _bottleneck_block if depth in BOTTLENECK_DEPTHS else _basic_block
            x = block(
                x,
                f"block{b + 1}",
                filters=int(64 * 2**i * width_multiplier),
                strides=2 if b == 0 and i > 0 else 1,
                project=b == 0 and not (i == 0 and identity),
                sk_ratio=sk_ratio,
                se_ratio=se_ratio,
                bn=bn,
            )
        parts.append(keras.Model(inputs, x, name=f"block_group{i + 1}"))
        channels = x.shape[-1]
    return parts


def _stem(
    width: int, *, small_stem: bool, sk: bool, variant: Variant, bn: BatchNormSettings, dtype
) -> keras.Model:
    """Makes the layers before the first block group."""
    inputs = keras.Input((None, None, 3), dtype=dtype)
    # First of all, because convolutions pad by zeros, which stand for the mean color then.
    x = _normalize(inputs, variant.input_normalization)
    if small_stem:
        initial_conv = layers.conv(x, "conv", filters=width, kernel_size=3)
        x = layers.batch_norm(initial_conv, "conv", bn)
    else:
        if sk:  # ResNet-D (arXiv:1812.01187): three 3x3 convolutions replace the 7x7
            x = layers.conv(x, "conv1", filters=width // 2, kernel_size=3, strides=2)
            x = layers.batch_norm(x, "conv1", bn)
            x = layers.conv(x, "conv2", filters=width // 2, kernel_size=3)
            x = layers.batch_norm(x, "conv2", bn)
            initial_conv = layers.conv(x, "conv", filters=width, kernel_size=3)
        else:
            initial_conv = layers.conv(x, "conv", filters=width, kernel_size=7, strides=2)
        x = layers.batch_norm(initial_conv, "conv", bn)
        x = _max_pool(x, variant.max_pool_padding)
    return keras.Model(inputs, [initial_conv, x], name="stem")


def _normalize(images, kind: str):
    """Subtracts the mean and divides by the deviation of each color."""
    if kind == "none":
        return images
    mean, deviation = NORMALIZATIONS[kind]
    return keras.layers.Rescaling(
        [1 / d for d in deviation],
        [-m / d for m, d in zip(mean, deviation, strict=True)],
        name="normalize",
        dtype=policy_of(images),
    )(images)


def _max_pool(x, padding: str):
    """Applies 3x3 max pooling with stride 2. Zeros are safe padding, because x is not negative."""
    if padding == "symmetric":
        x = keras.layers.ZeroPadding2D(1, name="max_pool.pad", dtype=policy_of(x))(x)
        padding = "valid"
    return keras.layers.MaxPooling2D(3, 2, padding=padding, name="max_pool", dtype=policy_of(x))(x)


def _shortcut(x, name: str, *, filters: int, strides: int, sk: bool, bn: BatchNormSettings):
    """Projects the input of the first block of a group to the shape of the block's output."""
    if sk:  # ResNet-D: average pooling with the stride ignores no pixel
        if strides > 1:
            x = layers.fixed_padding(x, f"{name}.pad", 2)
        padding = "same" if strides == 1 else "valid"
        x = keras.layers.AveragePooling2D(
            2, strides, padding=padding, name=f"{name}.pool", dtype=policy_of(x)
        )(x)
        strides = 1
    x = layers.conv(x, name, filters=filters, kernel_size=1, strides=strides)
    return layers.batch_norm(x, name, bn, relu=False)


def _basic_block(x, name, *, filters, strides, project, sk_ratio, se_ratio, bn):
    """Applies two 3x3 convolutions. sk_ratio only changes the shortcut (official code)."""
    shortcut = x
    if project:
        shortcut = _shortcut(
            x, f"{name}.shortcut", filters=filters, strides=strides, sk=sk_ratio > 0, bn=bn
        )
    x = layers.conv(x, f"{name}.conv1", filters=filters, kernel_size=3, strides=strides)
    x = layers.batch_norm(x, f"{name}.conv1", bn)
    x = layers.conv(x, f"{name}.conv2", filters=filters, kernel_size=3)
    x = layers.batch_norm(x, f"{name}.conv2", bn, relu=False, zero_gamma=True)
    return _join(x, shortcut, name, filters=filters, se_ratio=se_ratio)


def _bottleneck_block(x, name, *, filters, strides, project, sk_ratio, se_ratio, bn):
    """Applies 1x1, 3x3 (strided; selective kernels if sk_ratio > 0), 1x1 to 4 times the width."""
    shortcut = x
    if project:
        shortcut = _shortcut(
            x, f"{name}.shortcut", filters=4 * filters, strides=strides, sk=sk_ratio > 0, bn=bn
        )
    x = layers.conv(x, f"{name}.conv1", filters=filters, kernel_size=1)
    x = layers.batch_norm(x, f"{name}.conv1", bn)
    if sk_ratio > 0:
        x = layers.selective_kernel(
            x, f"{name}.sk", filters=filters, strides=strides, ratio=sk_ratio, bn=bn
        )
    else:
        x = layers.conv(x, f"{name}.conv2", filters=filters, kernel_size=3, strides=strides)
        x = layers.batch_norm(x, f"{name}.conv2", bn)
    x = layers.conv(x, f"{name}.conv3", filters=4 * filters, kernel_size=1)
    x = layers.batch_norm(x, f"{name}.conv3", bn, relu=False, zero_gamma=True)
    return _join(x, shortcut, name, filters=filters, se_ratio=se_ratio)


def _join(x, shortcut, name, *, filters, se_ratio):
    """Adds the shortcut, after squeeze-and-excitation if se_ratio > 0, and applies ReLU."""
    if se_ratio > 0:
        x = layers.squeeze_excitation(x, f"{name}.se", filters=filters, ratio=se_ratio)
    x = keras.layers.Add(name=f"{name}.add", dtype=policy_of(x))([x, shortcut])
    return layers.activation(x, "relu", f"{name}.out")
