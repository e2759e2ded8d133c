"""Computes the size of a network from its settings, before anything is built."""

from fractions import Fraction

from tf_simclr.models.resnet import BLOCKS_PER_GROUP, BOTTLENECK_DEPTHS


def widths(width_multiplier: float) -> list[int]:
    """Returns the channels of the four block groups, before the bottlenecks' expansion."""
    # Fraction, because a float would overflow.
    return [int(64 * 2**i * Fraction(width_multiplier)) for i in range(4)]


def feature_channels(depth: int, width_multiplier: float) -> int:
    """Returns the channels of the backbone's output."""
    return widths(width_multiplier)[-1] * (4 if depth in BOTTLENECK_DEPTHS else 1)


def backbone_parameters(
    *,
    depth: int,
    width_multiplier: float,
    small_stem: bool,
    sk_ratio: float,
    se_ratio: float,
    first_shortcut: str = "projection",
) -> int:
    """Counts the trainable parameters of `resnet.stages`."""
    width, *_ = group_widths = widths(width_multiplier)
    if small_stem:
        total = _conv(3, 3, width)
    elif sk_ratio > 0:
        half = width // 2
        total = _conv(3, 3, half) + _conv(3, half, half) + _conv(3, half, width)
    else:
        total = _conv(7, 3, width)
    channels = width
    if first_shortcut == "identity":
        total -= _conv(1, width, width)
    for blocks, filters in zip(BLOCKS_PER_GROUP[depth], group_widths, strict=False):
        expanded = filters * (4 if depth in BOTTLENECK_DEPTHS else 1)
        total += _conv(1, channels, expanded)  # the shortcut of the first block
        for _ in range(blocks):
            if depth in BOTTLENECK_DEPTHS:
                total += _bottleneck(channels, filters, sk_ratio)
            else:
                total += _conv(3, channels, filters) + _conv(3, filters, filters)
            if se_ratio > 0:
                reduced = max(1, int(filters * Fraction(se_ratio)))
                total += 2 * reduced * expanded + reduced + expanded
            channels = expanded
    return total


def projection_parameters(features: int, *, mode: str, num_layers: int, out_dim: int) -> int:
    """Counts the trainable parameters of `heads.projection_layers`."""
    if mode == "none":
        return 0
    # Each layer has a gamma, and each but the last also has a beta.
    middle = (num_layers - 1) * (features * features + 2 * features) if mode == "nonlinear" else 0
    return middle + features * out_dim + out_dim


def first_group_elements(
    *, image_size: int, depth: int, width_multiplier: float, small_stem: bool
) -> int:
    """Counts the elements in the output of block_group1 for one image."""
    side = image_size if small_stem else -(-image_size // 4)
    return side * side * widths(width_multiplier)[0] * (4 if depth in BOTTLENECK_DEPTHS else 1)


def _conv(kernel_size: int, channels: int, filters: int) -> int:
    """Counts the parameters of a convolution and its batch normalization."""
    return kernel_size * kernel_size * channels * filters + 2 * filters


def _bottleneck(channels: int, filters: int, sk_ratio: float) -> int:
    """Counts the parameters of a bottleneck without its shortcut."""
    total = _conv(1, channels, filters) + _conv(1, filters, 4 * filters)
    if sk_ratio == 0:
        return total + _conv(3, filters, filters)
    reduced = max(int(filters * Fraction(sk_ratio)), 32)
    streams = _conv(3, filters, 2 * filters)
    return total + streams + _conv(1, filters, reduced) + reduced * 2 * filters
