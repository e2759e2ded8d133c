"""Makes the views of single images on the host (SimCLR paper, appendix A; official code).

Images are float32 in [0, 1] with channels last. Every random op takes a stateless seed, integers
(2,): the same seed gives the same result in any process, so a resumed run augments exactly as an
uninterrupted run would have. Everything runs eagerly, in a tf.function and in Dataset.map.
"""

import tensorflow as tf

from tf_simclr.data.augment import color, crop, distortion
from tf_simclr.data.augment.crop import TO_UNIT

# Official code: up to this size the whole image is evaluated, above it a central crop.
_WHOLE_IMAGE_MAX_SIZE = 32
# Up to this size TensorFlow's kernels are faster on one image than calling compiled code.
_UNCOMPILED_MAX_SIZE = 32


def pretraining_view(
    image: tf.Tensor,
    box: tf.Tensor,
    seed: tf.Tensor,
    *,
    image_size: int,
    strength: float,
    impl: str = "simclrv2",
) -> tf.Tensor:
    """Crops and resizes, flips with p = 0.5, and distorts colors; the device blurs later.

    Args:
      image: uint8 (h, w, 3).
      box: the crop, int32 (4,): y, x, height, width in pixels.
      seed: integers (2,).
      image_size: side of the view in pixels.
      strength: s in the paper's appendix A.
      impl: "simclrv2" multiplies the brightness, "simclrv1" adds to it.

    Returns:
      float32 (image_size, image_size, 3) in [0, 1].
    """
    flip, draws = pretraining_draws(seed)
    finish = _finish_compiled if is_compiled(image_size) else _finish
    resized = crop.crop_and_resize(image, box, image_size)
    return finish(resized, flip, draws, strength=strength, impl=impl)


def pretraining_draws(seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws what `pretraining_view` needs from a seed, integers (2,).

    Returns:
      The draw of the flip, float32 (), and of the color distortion, float32 (NUM_DRAWS,).
    """
    # One draw for everything: small images cost time per op, not per pixel.
    draws = tf.random.stateless_uniform([1 + distortion.NUM_DRAWS], seed)
    return draws[0], draws[1:]


def is_compiled(image_size: int) -> bool:
    """Returns whether XLA compiles the flip and color distortion of a pretraining view."""
    return image_size > _UNCOMPILED_MAX_SIZE


def _finish(
    resized: tf.Tensor, flip: tf.Tensor, draws: tf.Tensor, *, strength: float, impl: str
) -> tf.Tensor:
    """Scales a resized crop (s, s, 3) from [0, 255], then randomly mirrors and distorts it."""
    image = crop.random_flip(resized * TO_UNIT, flip)
    return distortion.distort_image(image, draws, strength=strength, impl=impl)


@tf.function(jit_compile=True, autograph=False)
def _finish_compiled(
    resized: tf.Tensor, flip: tf.Tensor, draws: tf.Tensor, *, strength: float, impl: str
) -> tf.Tensor:
    """Computes the same as _finish up to rounding, compiled by XLA."""
    stacked = tf.transpose(resized, (2, 0, 1)) * TO_UNIT
    planes = tf.unstack(tf.where(flip < crop.FLIP_PROBABILITY, stacked[..., ::-1], stacked))
    planes = distortion.distort_planes(planes, draws, strength=strength, impl=impl)
    red, green, blue = (plane[..., tf.newaxis] for plane in planes)
    channel = tf.range(3)
    return tf.where(channel == 0, red, tf.where(channel == 1, green, blue))


def finetuning_view(
    image: tf.Tensor, box: tf.Tensor, seed: tf.Tensor, *, image_size: int
) -> tf.Tensor:
    """Crops and resizes, and flips with p = 0.5.

    Args:
      image: uint8 (h, w, 3).
      box: the crop, int32 (4,): y, x, height, width in pixels.
      seed: integers (2,).
      image_size: side of the view in pixels.

    Returns:
      float32 (image_size, image_size, 3) in [0, 1].
    """
    resized = crop.crop_and_resize(image, box, image_size)
    flipped = crop.random_flip(resized, finetuning_draw(seed))
    return color.clip(flipped * TO_UNIT)


def finetuning_draw(seed: tf.Tensor) -> tf.Tensor:
    """Draws the flip of `finetuning_view`, float32 (), from a seed, integers (2,)."""
    return tf.random.stateless_uniform([], seed)


def evaluation_view(image: tf.Tensor, *, image_size: int) -> tf.Tensor:
    """Makes the fixed view of evaluation.

    For image_size > 32 it is a central crop. Up to 32 it is the whole image, resized if it has
    another size. (The official code fails in that case.)

    Args:
      image: uint8 (h, w, 3), or images of one size (n, h, w, 3). Floats from 0 to 255 also work.
      image_size: side of the view in pixels.

    Returns:
      float32 (image_size, image_size, 3), or (n, image_size, image_size, 3), in [0, 1].
    """
    if image_size > _WHOLE_IMAGE_MAX_SIZE:
        return color.clip(crop.central_crop_and_resize(image, image_size))
    # At equal sizes the bicubic weights are exactly 0 and 1.
    return color.clip(crop.resize(image, image_size) * TO_UNIT)


def evaluation_preparation(
    image_size: int, image_range: tuple[int, int] | None = None
) -> dict[str, object]:
    """Describes evaluation_view for users of an export (docs/exporting.md).

    Args:
      image_size: side of the view in pixels.
      image_range: the values of 16-bit images that become black and white.

    Returns:
      The settings for about.json; crop_proportion is None if the whole image is used.
    """
    is_cropped = image_size > _WHOLE_IMAGE_MAX_SIZE
    return {
        "image_size": image_size,
        "crop_proportion": crop.EVAL_CROP_PROPORTION if is_cropped else None,
        "interpolation": "bicubic",
        "antialias": False,
        "value_range": [0.0, 1.0],
        "image_range": list(image_range) if image_range else None,
    }
