"""Colour operations on planes: images as a list of their reds, their greens and their blues.

Pixels of a plane lie side by side: an op is a loop without branches, in which a compiler works on
many pixels at a time, and which it fuses with its neighbours. Planes are float32 (..., h, w); an
amount is a scalar or has the shape (..., 1, 1). Results are those of TensorFlow's ops on (h, w, 3)
but for rounding, and may leave [0, 1].
"""

import tensorflow as tf

_LUMA_WEIGHTS = (0.2989, 0.587, 0.114)  # those of tf.image.rgb_to_grayscale
_TINY = 1e-20  # keeps a gray pixel from dividing by 0


def brightness(planes: list, factor) -> list:
    """Scales the image ("simclrv2" brightness)."""
    return [plane * factor for plane in planes]


def brightness_additive(planes: list, delta) -> list:
    """Adds delta to the image ("simclrv1" brightness)."""
    return [plane + delta for plane in planes]


def contrast(planes: list, factor) -> list:
    """Scales each plane about its mean."""
    means = [tf.reduce_mean(plane, axis=[-2, -1], keepdims=True) for plane in planes]
    return [(p - mean) * factor + mean for p, mean in zip(planes, means, strict=True)]


def saturation(planes: list, factor) -> list:
    """Scales the HSV saturation: the distance of each channel to the largest, at most to 1."""
    value, chroma = _value_and_chroma(planes)
    ratio = tf.where(chroma > 0, tf.minimum(factor, value / tf.maximum(chroma, _TINY)), 1.0)
    return [value - (value - plane) * ratio for plane in planes]


def hue(planes: list, turn) -> list:
    """Turns the HSV hue, by a part of a whole turn; value and chroma stay."""
    red, green, blue = planes
    value, chroma = _value_and_chroma(planes)
    inverse = tf.where(chroma > 0, 1.0 / tf.maximum(chroma, _TINY), 0.0)
    sector = tf.where(
        value == red,
        (green - blue) * inverse,
        tf.where(value == green, 2.0 + (blue - red) * inverse, 4.0 + (red - green) * inverse),
    )
    sector += 6.0 * turn
    result = []
    for offset in (5.0, 3.0, 1.0):
        k = sector + offset
        k -= 6.0 * tf.floor(k * (1.0 / 6.0))
        result.append(value - chroma * tf.clip_by_value(tf.minimum(k, 4.0 - k), 0.0, 1.0))
    return result


def luma(planes: list) -> tf.Tensor:
    """The gray of an image, (..., h, w)."""
    return sum(weight * plane for weight, plane in zip(_LUMA_WEIGHTS, planes, strict=True))


def clip(planes: list) -> list:
    """Cuts off what is outside of [0, 1]."""
    return [tf.clip_by_value(plane, 0.0, 1.0) for plane in planes]


def jitter_ops(impl: str) -> tuple:
    """The four ops of colour jitter, in the order of their amounts."""
    return brightness if impl == "simclrv2" else brightness_additive, contrast, saturation, hue


def _value_and_chroma(planes):
    red, green, blue = planes
    value = tf.maximum(tf.maximum(red, green), blue)
    return value, value - tf.minimum(tf.minimum(red, green), blue)
