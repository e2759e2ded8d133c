"""Colour distortion of single images (official code; SimCLR paper, appendix A).

Images are float32 (h, w, 3) in [0, 1]. Seeds are stateless, as in `augment`.
"""

import tensorflow as tf

from tf_simclr.config.choices import JITTER_IMPLS
from tf_simclr.data.augment import planes

JITTER_PROBABILITY = 0.8
GRAYSCALE_PROBABILITY = 0.2
NUM_OPS = 4
NUM_DRAWS = 2 * NUM_OPS + 2  # amounts, order, whether to jitter, whether to make gray


def clip(image: tf.Tensor) -> tf.Tensor:
    """Cuts off what is outside of [0, 1]."""
    return tf.clip_by_value(image, 0.0, 1.0)


def _at_most_1(image: tf.Tensor) -> tf.Tensor:
    return tf.minimum(image, 1.0)


def brightness(image: tf.Tensor, factor: float) -> tf.Tensor:
    """Scales an image by a factor ("simclrv2" brightness); not clipped."""
    return image * factor


def brightness_additive(image: tf.Tensor, delta: float) -> tf.Tensor:
    """Adds delta to an image ("simclrv1" brightness); not clipped."""
    return tf.image.adjust_brightness(image, delta)


def contrast(image: tf.Tensor, factor: float) -> tf.Tensor:
    """Scales (h, w, c) about each channel's spatial mean; not clipped."""
    return tf.image.adjust_contrast(image, factor)


def saturation(image: tf.Tensor, factor: float) -> tf.Tensor:
    """Scales the HSV saturation of (h, w, 3)."""
    return tf.image.adjust_saturation(image, factor)


def hue(image: tf.Tensor, delta: float) -> tf.Tensor:
    """Turns the HSV hue of (h, w, 3) by delta turns, delta in [-1, 1]."""
    return tf.image.adjust_hue(image, delta)


def to_grayscale(image: tf.Tensor) -> tf.Tensor:
    """Luma of (h, w, 3), repeated over the 3 channels."""
    return tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image))


def color_jitter(
    image: tf.Tensor, seed: tf.Tensor, *, strength: float, impl: str = "simclrv2"
) -> tf.Tensor:
    """Brightness, contrast, saturation and hue by random amounts in random order.

    Args:
      image: float32 (h, w, 3) in [0, 1].
      seed: integers (2,).
      strength: s; ranges are 0.8 s for the first three and 0.2 s for hue (paper, appendix A).
      impl: "simclrv2" multiplies the brightness, "simclrv1" adds to it.

    Returns:
      float32 (h, w, 3) in [0, 1]: clipped after each op that can leave it.

    Raises:
      ValueError: unknown impl.
    """
    return _jitter(image, tf.random.stateless_uniform([8], seed), strength=strength, impl=impl)


def color_distortion(
    image: tf.Tensor, seed: tf.Tensor, *, strength: float, impl: str = "simclrv2"
) -> tf.Tensor:
    """With p = 0.8 a colour jitter, then with p = 0.2 grayscale (paper, appendix A).

    Arguments and errors as for color_jitter, but image may leave [0, 1], as bicubic weights do;
    returns float32 (h, w, 3), clipped at the end.
    """
    return distort(
        image, tf.random.stateless_uniform([NUM_DRAWS], seed), strength=strength, impl=impl
    )


def distort(image: tf.Tensor, draws: tf.Tensor, *, strength: float, impl: str) -> tf.Tensor:
    """color_distortion from NUM_DRAWS uniform draws in [0, 1)."""
    shape = image.shape

    def perhaps_gray(image):
        return tf.cond(draws[9] < GRAYSCALE_PROBABILITY, lambda: to_grayscale(image), lambda: image)

    distorted = tf.cond(
        draws[8] < JITTER_PROBABILITY,
        lambda: perhaps_gray(_jitter(image, draws[:8], strength=strength, impl=impl)),
        lambda: clip(perhaps_gray(image)),
    )
    return tf.ensure_shape(distorted, shape)


def distort_planes(found: list, draws: tf.Tensor, *, strength: float, impl: str) -> list:
    """`distort` of an image's three planes, (h, w) each, for XLA: the same but for rounding.

    At 224 pixels it takes a third of the time. The planes must stay apart: XLA would work out for
    every pixel of a stack of them which one it belongs to.
    """
    amounts, order = _amounts_and_order(draws, strength, impl)

    def stage(k, found):
        branches = [
            lambda op=op, amount=amounts[j]: planes.clip(op(found, amount))
            for j, op in enumerate(planes.jitter_ops(impl))
        ]
        return k + 1, tf.switch_case(order[k], branches)

    stages = tf.where(draws[8] < JITTER_PROBABILITY, NUM_OPS, 0)
    _, found = tf.while_loop(lambda k, _: k < stages, stage, (0, found))
    gray, luma = draws[9] < GRAYSCALE_PROBABILITY, planes.luma(found)
    return planes.clip([tf.where(gray, luma, plane) for plane in found])


def _jitter(image: tf.Tensor, draws: tf.Tensor, *, strength: float, impl: str) -> tf.Tensor:
    """color_jitter from 8 uniform draws in [0, 1)."""
    amounts, order = map(tf.unstack, _amounts_and_order(draws, strength, impl))
    # Of an image in [0, 1] neither saturation nor hue leaves it, and a factor only upwards. The
    # first op may meet what bicubic weights have left outside.
    brighter = (brightness, _at_most_1) if impl == "simclrv2" else (brightness_additive, clip)
    ops = (brighter, (contrast, clip), (saturation, tf.identity), (hue, tf.identity))
    shape = image.shape
    for position, which in enumerate(order):
        branches = [
            lambda op=op, cut=cut if position else clip, amount=amount, image=image: cut(
                op(image, amount)
            )
            for (op, cut), amount in zip(ops, amounts, strict=True)
        ]
        image = tf.switch_case(which, branches)
    return tf.ensure_shape(image, shape)


def _amounts_and_order(draws: tf.Tensor, strength: float, impl: str):
    """Of 8 uniform draws in [0, 1): 4 give the amounts, and the ranks of 4 are the order."""
    if impl not in JITTER_IMPLS:
        raise ValueError(f"color_jitter_impl must be one of {JITTER_IMPLS}, got {impl!r}")
    lows, widths = jitter_ranges(strength, impl)
    return draws[:4] * widths + lows, tf.math.top_k(draws[4:8], k=NUM_OPS).indices


def jitter_ranges(strength: float, impl: str) -> tuple[list[float], list[float]]:
    """Lows and widths of the amounts of brightness, contrast, saturation and hue."""
    spread, turn = 0.8 * strength, 0.2 * strength
    factors = max(0.0, 1 - spread), 1 + spread
    ranges = [
        factors if impl == "simclrv2" else (-spread, spread),
        factors,
        factors,
        # TensorFlow refuses more than a whole turn of hue, and it is no other hue.
        (max(-1.0, -turn), min(1.0, turn)),
    ]
    return [low for low, _ in ranges], [high - low for low, high in ranges]
