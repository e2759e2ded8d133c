"""The operations of color distortion (SimCLR paper, appendix A; official code).

Every operation has two implementations, with the same results up to rounding:

- on an image, float32 (h, w, 3), by TensorFlow's kernel. On small images this is fastest.
- on planes, a list of an image's red, green and blue plane, float32 (..., h, w) each. The pixels of
  a plane are adjacent in memory and an operation has no branches, so XLA vectorizes and fuses it.
  An amount is a scalar or has the shape (..., 1, 1).

Results may exceed [0, 1]; `distortion` and `on_device` clip them.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

JITTER_PROBABILITY = 0.8
GRAYSCALE_PROBABILITY = 0.2
NUM_OPS = 4
_LUMA_WEIGHTS = (0.2989, 0.587, 0.114)  # as in tf.image.rgb_to_grayscale
_TINY = 1e-20  # avoids division by 0 for gray pixels

Planes = list[tf.Tensor]


class Operation(NamedTuple):
    """An operation of color jitter.

    Attributes:
      name: name of what it changes.
      sign: how the amount acts: "×" for a factor, "+" for an addend.
      amounts: strength -> (lowest, highest) amount. The amount is uniform between them.
      on_image: (image, amount) -> image.
      clip_image: clips on_image's result to [0, 1], for inputs in [0, 1].
      on_planes: (planes, amount) -> planes.
    """

    name: str
    sign: str
    amounts: Callable[[float], tuple[float, float]]
    on_image: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    clip_image: Callable[[tf.Tensor], tf.Tensor]
    on_planes: Callable[[Planes, tf.Tensor], Planes]


class Distortion(NamedTuple):
    """What is drawn for the color distortion of an image, or of a batch of n images.

    Attributes:
      amounts: float32 (4,) or (n, 4), in the order of `operations`.
      order: int32 (4,), the indices of the operations. An image runs them in this order. For a
        batch, see `on_device.order_of_image`.
      jitters: bool () or (n,), whether to jitter.
      grays: bool () or (n,), whether to make gray.
    """

    amounts: tf.Tensor
    order: tf.Tensor
    jitters: tf.Tensor
    grays: tf.Tensor


def clip(image: tf.Tensor) -> tf.Tensor:
    """Clips to [0, 1]."""
    return tf.clip_by_value(image, 0.0, 1.0)


def clip_planes(planes: Planes) -> Planes:
    """Clips each plane to [0, 1]."""
    return [clip(plane) for plane in planes]


def to_grayscale(image: tf.Tensor) -> tf.Tensor:
    """Replaces the colors of an image (h, w, 3) by their luma in all three channels."""
    return tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image))


def luma(planes: Planes) -> tf.Tensor:
    """Computes the luma of planes, (..., h, w)."""
    return sum(weight * plane for weight, plane in zip(_LUMA_WEIGHTS, planes, strict=True))


def _factors(strength: float) -> tuple[float, float]:
    spread = 0.8 * strength
    return max(0.0, 1 - spread), 1 + spread


def _deltas(strength: float) -> tuple[float, float]:
    spread = 0.8 * strength
    return -spread, spread


def _hue_shifts(strength: float) -> tuple[float, float]:
    shift = 0.2 * strength
    # TensorFlow rejects shifts of more than a full turn, which would give no new hue.
    return max(-1.0, -shift), min(1.0, shift)


def _contrast(planes: Planes, factor: tf.Tensor) -> Planes:
    means = [tf.reduce_mean(plane, axis=[-2, -1], keepdims=True) for plane in planes]
    return [(p - mean) * factor + mean for p, mean in zip(planes, means, strict=True)]


def _saturation(planes: Planes, factor: tf.Tensor) -> Planes:
    """Scales each channel's distance to the largest channel; saturation becomes at most 1."""
    value, chroma = _value_and_chroma(planes)
    ratio = tf.where(chroma > 0, tf.minimum(factor, value / tf.maximum(chroma, _TINY)), 1.0)
    return [value - (value - plane) * ratio for plane in planes]


def _hue(planes: Planes, shift: tf.Tensor) -> Planes:
    """Shifts the hue and keeps value and chroma."""
    red, green, blue = planes
    value, chroma = _value_and_chroma(planes)
    inverse = tf.where(chroma > 0, 1.0 / tf.maximum(chroma, _TINY), 0.0)
    sector = tf.where(
        value == red,
        (green - blue) * inverse,
        tf.where(value == green, 2.0 + (blue - red) * inverse, 4.0 + (red - green) * inverse),
    )
    sector += 6.0 * shift
    result = []
    for offset in (5.0, 3.0, 1.0):
        k = sector + offset
        k -= 6.0 * tf.floor(k * (1.0 / 6.0))
        result.append(value - chroma * tf.clip_by_value(tf.minimum(k, 4.0 - k), 0.0, 1.0))
    return result


def _value_and_chroma(planes: Planes) -> tuple[tf.Tensor, tf.Tensor]:
    red, green, blue = planes
    value = tf.maximum(tf.maximum(red, green), blue)
    return value, value - tf.minimum(tf.minimum(red, green), blue)


# Scales the image ("simclrv2").
BRIGHTNESS = Operation(
    name="brightness",
    sign="×",
    amounts=_factors,
    on_image=lambda image, factor: image * factor,
    clip_image=lambda image: tf.minimum(image, 1.0),
    on_planes=lambda planes, factor: [plane * factor for plane in planes],
)
# Adds to the image ("simclrv1").
BRIGHTNESS_ADDITIVE = Operation(
    name="brightness",
    sign="+",
    amounts=_deltas,
    on_image=tf.image.adjust_brightness,
    clip_image=clip,
    on_planes=lambda planes, delta: [plane + delta for plane in planes],
)
# Scales each channel about its mean over the pixels.
CONTRAST = Operation(
    name="contrast",
    sign="×",
    amounts=_factors,
    on_image=tf.image.adjust_contrast,
    clip_image=clip,
    on_planes=_contrast,
)
# Scales the saturation of HSV.
SATURATION = Operation(
    name="saturation",
    sign="×",
    amounts=_factors,
    on_image=tf.image.adjust_saturation,
    clip_image=tf.identity,
    on_planes=_saturation,
)
# Shifts the hue of HSV, by a fraction of a full turn.
HUE = Operation(
    name="hue",
    sign="+",
    amounts=_hue_shifts,
    on_image=tf.image.adjust_hue,
    clip_image=tf.identity,
    on_planes=_hue,
)

# {color_jitter_impl: operations, in the order in which their amounts are drawn}.
OPERATIONS = {
    "simclrv2": (BRIGHTNESS, CONTRAST, SATURATION, HUE),
    "simclrv1": (BRIGHTNESS_ADDITIVE, CONTRAST, SATURATION, HUE),
}
JITTER_IMPLS = tuple(OPERATIONS)


def operations(impl: str) -> tuple[Operation, ...]:
    """Returns the four operations of a color_jitter_impl.

    Raises:
      ValueError: unknown impl.
    """
    if impl not in OPERATIONS:
        raise ValueError(f"color_jitter_impl must be one of {JITTER_IMPLS}, got {impl!r}")
    return OPERATIONS[impl]


def jitter_amounts(draws: tf.Tensor, *, strength: float, impl: str) -> tf.Tensor:
    """Scales uniform draws to the amounts of the four operations, (..., 4).

    Args:
      draws: uniform draws in [0, 1), (..., 4).
      strength: s in the paper's appendix A.
      impl: "simclrv2" or "simclrv1".

    Raises:
      ValueError: unknown impl.
    """
    ranges = [operation.amounts(strength) for operation in operations(impl)]
    return draws * [high - low for low, high in ranges] + [low for low, _ in ranges]
