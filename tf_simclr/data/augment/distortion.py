"""Distorts colors of single images on the host (SimCLR paper, appendix A; official code).

`distort_image` and `distort_planes` give the same results up to rounding. Seeds are stateless.
"""

import tensorflow as tf

from tf_simclr.data.augment import color
from tf_simclr.data.augment.color import NUM_OPS, Distortion, Operation, Planes

_NUM_JITTER_DRAWS = 2 * NUM_OPS  # amounts, order
NUM_DRAWS = _NUM_JITTER_DRAWS + 2  # plus: whether to jitter, whether to make gray


def color_jitter(
    image: tf.Tensor, seed: tf.Tensor, *, strength: float, impl: str = "simclrv2"
) -> tf.Tensor:
    """Changes brightness, contrast, saturation and hue by random amounts in random order.

    Args:
      image: float32 (h, w, 3) in [0, 1].
      seed: integers (2,).
      strength: s; ranges are 0.8 s, and 0.2 s for hue (paper, appendix A).
      impl: "simclrv2" multiplies the brightness, "simclrv1" adds to it.

    Returns:
      float32 (h, w, 3) in [0, 1], clipped after each operation that can exceed it.

    Raises:
      ValueError: unknown impl.
    """
    draws = tf.random.stateless_uniform([_NUM_JITTER_DRAWS], seed)
    return _jitter(image, draws, strength=strength, impl=impl)


def color_distortion(
    image: tf.Tensor, seed: tf.Tensor, *, strength: float, impl: str = "simclrv2"
) -> tf.Tensor:
    """Applies color jitter with p = 0.8, then grayscale with p = 0.2 (paper, appendix A).

    Same arguments and errors as color_jitter, but the image may exceed [0, 1], as after bicubic
    resizing. Returns float32 (h, w, 3), clipped to [0, 1].
    """
    draws = tf.random.stateless_uniform([NUM_DRAWS], seed)
    return distort_image(image, draws, strength=strength, impl=impl)


def distort_image(image: tf.Tensor, draws: tf.Tensor, *, strength: float, impl: str) -> tf.Tensor:
    """Applies color_distortion, given NUM_DRAWS uniform draws in [0, 1)."""
    shape = image.shape

    def maybe_grayscale(image: tf.Tensor) -> tf.Tensor:
        return tf.cond(
            _grays(draws),
            lambda: color.to_grayscale(image),
            lambda: image,
        )

    distorted = tf.cond(
        _jitters(draws),
        lambda: maybe_grayscale(_jitter(image, draws[:8], strength=strength, impl=impl)),
        lambda: color.clip(maybe_grayscale(image)),
    )
    return tf.ensure_shape(distorted, shape)


def distort_planes(planes: Planes, draws: tf.Tensor, *, strength: float, impl: str) -> Planes:
    """Applies color_distortion to the three planes of an image, (h, w) each, under XLA.

    At 224 pixels it takes a third of the time of distort_image. The planes are separate tensors:
    with a stacked tensor, XLA would evaluate a plane index per pixel.
    """
    drawn = distortion(draws, strength=strength, impl=impl)

    def stage(k: tf.Tensor, planes: Planes) -> tuple[tf.Tensor, Planes]:
        branches = [
            lambda op=op, amount=drawn.amounts[j]: color.clip_planes(op.on_planes(planes, amount))
            for j, op in enumerate(color.operations(impl))
        ]
        return k + 1, tf.switch_case(drawn.order[k], branches)

    stages = tf.where(drawn.jitters, NUM_OPS, 0)
    _, planes = tf.while_loop(lambda k, _: k < stages, stage, (0, planes))
    luma = color.luma(planes)
    return color.clip_planes([tf.where(drawn.grays, luma, plane) for plane in planes])


def distortion(draws: tf.Tensor, *, strength: float, impl: str) -> Distortion:
    """Turns NUM_DRAWS uniform draws in [0, 1) into the distortion of an image."""
    amounts, order = _amounts_and_order(draws, strength=strength, impl=impl)
    return Distortion(amounts, order, _jitters(draws), _grays(draws))


def jitter_image(
    op: Operation, image: tf.Tensor, amount: tf.Tensor, *, is_first: bool
) -> tf.Tensor:
    """Runs one operation of color jitter on an image, and clips.

    Args:
      op: the operation.
      image: float32 (h, w, 3) in [0, 1]; after bicubic resizing, the first
        operation's image may exceed it.
      amount: the operation's amount.
      is_first: whether no operation precedes it.
    """
    clip = color.clip if is_first else op.clip_image
    return clip(op.on_image(image, amount))


def _jitters(draws: tf.Tensor) -> tf.Tensor:
    return draws[8] < color.JITTER_PROBABILITY


def _grays(draws: tf.Tensor) -> tf.Tensor:
    return draws[9] < color.GRAYSCALE_PROBABILITY


def _jitter(image: tf.Tensor, draws: tf.Tensor, *, strength: float, impl: str) -> tf.Tensor:
    """Applies color_jitter, given 8 uniform draws in [0, 1)."""
    amounts, order = map(tf.unstack, _amounts_and_order(draws, strength=strength, impl=impl))
    shape = image.shape
    for position, operation_index in enumerate(order):
        branches = []
        for op, amount in zip(color.operations(impl), amounts, strict=True):
            branches.append(
                lambda op=op, amount=amount, image=image, is_first=not position: jitter_image(
                    op, image, amount, is_first=is_first
                )
            )
        image = tf.switch_case(operation_index, branches)
    return tf.ensure_shape(image, shape)


def _amounts_and_order(
    draws: tf.Tensor, *, strength: float, impl: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the amounts (4,) from the first 4 draws, and the order (4,) from the next 4."""
    amounts = color.jitter_amounts(draws[:NUM_OPS], strength=strength, impl=impl)
    return amounts, tf.math.top_k(draws[NUM_OPS:_NUM_JITTER_DRAWS], k=NUM_OPS).indices
