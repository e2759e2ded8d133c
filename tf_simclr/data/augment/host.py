"""Image and batch augmentation of SimCLR (official code; SimCLR paper, appendix A).

Images are float32 in [0, 1] with channels last. Every random op takes a stateless seed, an integer
tensor of shape (2,): the same seed gives the same result in any process, so that a resumed run
augments exactly as an uninterrupted one would have. Everything runs eagerly, in a tf.function and
in Dataset.map.
"""

from collections.abc import Sequence

import tensorflow as tf

from tf_simclr.data.augment import color

_CROP_AREA_RANGE = (0.08, 1.0)
_CROP_ASPECT_RANGE = (3 / 4, 4 / 3)
_CROP_MIN_COVERED = 0.1
_CROP_ATTEMPTS = 100
FLIP_PROBABILITY = 0.5
TO_UNIT = 1 / 255  # when resized: there are fewer pixels then
_EVAL_CROP_PROPORTION = 0.875
_BLUR_SIGMA_RANGE = (0.1, 2.0)  # pixels
# Official code: images up to here are evaluated whole, and shuffled among more. Nor is it worth
# compiling ops on one of them; batches of them are what a CPU augments faster than one by one.
SMALL_SIZE = 32


def random_crop_box(seed: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """A box of 0.08 to 1 of the area and width / height of 3/4 to 4/3, else the whole image.

    Args:
      seed: integers (2,).
      height: of the image, in pixels.
      width: likewise.

    Returns:
      int32 (4,): y, x, height, width in pixels.
    """
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.stack([height, width, 3]),
        bounding_boxes=tf.zeros([1, 0, 4]),
        seed=seed,
        min_object_covered=_CROP_MIN_COVERED,
        aspect_ratio_range=_CROP_ASPECT_RANGE,
        area_range=_CROP_AREA_RANGE,
        max_attempts=_CROP_ATTEMPTS,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], size[:2]], axis=0)


def random_crop_boxes(n: int, seed: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """`random_crop_box` of n images of one size at a time.

    The same draws as TensorFlow's op takes, which makes one box a call: an aspect ratio; a height,
    uniform among those that keep the area; a place. A box that does not fit, or covers too little,
    is drawn again, up to 100 times.

    Args:
      n: number of boxes.
      seed: integers (2,).
      height: of the images, in pixels.
      width: likewise.

    Returns:
      int32 (n, 4): y, x, height, width in pixels.
    """
    low_ratio, high_ratio = _CROP_ASPECT_RANGE
    # The op asks for both: an area within its range, and enough of the whole image covered.
    low_area, high_area = (share * height * width for share in _CROP_AREA_RANGE)
    covered = _CROP_MIN_COVERED * height * width

    def whole(x):
        return tf.cast(tf.math.rint(x), tf.int32)

    def below(draw, count):
        """A uniform integer in [0, count), 0 if there is none."""
        scaled = tf.cast(draw * tf.cast(count, tf.float32), tf.int32)
        return tf.maximum(tf.minimum(scaled, count - 1), 0)

    def attempt(i, boxes, found):
        draws = uniform([4, n], tf.random.experimental.stateless_fold_in(seed, i, alg="philox"))
        ratio = low_ratio + (high_ratio - low_ratio) * draws[0]
        lowest, highest = whole(tf.sqrt(low_area / ratio)), whole(tf.sqrt(high_area / ratio))
        widest = tf.cast((width + 0.5 - 1e-7) / ratio, tf.int32)
        widest -= tf.cast(whole(tf.cast(widest, tf.float32) * ratio) > width, tf.int32)
        too_wide = whole(tf.cast(highest, tf.float32) * ratio) > width
        highest = tf.minimum(tf.where(too_wide, widest, highest), height)
        lowest = tf.minimum(lowest, highest)
        box_height = lowest + below(draws[1], highest - lowest + 1)
        box_width = whole(tf.cast(box_height, tf.float32) * ratio)
        # Rounding may have left the range by a row.
        area = tf.cast(box_height * box_width, tf.float32)
        box_height += tf.cast(area < low_area, tf.int32) - tf.cast(area > high_area, tf.int32)
        box_width = whole(tf.cast(box_height, tf.float32) * ratio)
        area = tf.cast(box_height * box_width, tf.float32)
        fits = (area >= max(low_area, covered)) & (area <= high_area) & (box_width <= width)
        fits &= (box_height <= height) & (box_width > 0) & (box_height > 0)
        y = below(draws[2], height - box_height)
        x = below(draws[3], width - box_width)
        drawn = tf.stack([y, x, box_height, box_width], axis=1)
        boxes = tf.where((fits & ~found)[:, tf.newaxis], drawn, boxes)
        return i + 1, boxes, found | fits

    _, boxes, _ = tf.while_loop(
        lambda i, _, found: (i < _CROP_ATTEMPTS) & ~tf.reduce_all(found),
        attempt,
        (tf.constant(0), tf.tile([[0, 0, height, width]], [n, 1]), tf.zeros(n, tf.bool)),
    )
    return boxes


def crop_and_resize(image: tf.Tensor, box: tf.Tensor, size: int) -> tf.Tensor:
    """A box of an image, resized with bicubic weights, which overshoot: views clip at their end.

    Args:
      image: uint8 (h, w, 3).
      box: int32 (4,): y, x, height, width in pixels.
      size: side of the result.

    Returns:
      float32 (size, size, 3), bytes as they were: from 0 to 255.
    """
    y, x, height, width = tf.unstack(box)
    crop = tf.slice(image, (y, x, 0), (height, width, 3))
    return _bicubic(crop, size)


def crop_and_resize_uint8(image: tf.Tensor, box: tf.Tensor, size: int) -> tf.Tensor:
    """crop_and_resize of uint8 to uint8, rounded, and clipped where bicubic weights overshoot."""
    resized = crop_and_resize(image, box, size)
    # Clips, rounds and converts in one pass, where three ops take three times as long.
    rounded, _, _ = tf.raw_ops.QuantizeV2(
        input=resized, min_range=0.0, max_range=255.0, T=tf.quint8, mode="MIN_COMBINED"
    )
    return tf.bitcast(rounded, tf.uint8)


def _bicubic(image: tf.Tensor, size: int) -> tf.Tensor:
    # The op takes bytes, too, but reads each of them some sixteen times and converts it each time.
    resized = tf.image.resize(
        tf.cast(image, tf.float32), (size, size), tf.image.ResizeMethod.BICUBIC
    )
    return tf.ensure_shape(resized, (size, size, 3))


def random_flip(image: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
    """Mirrors (h, w, c) left to right with p = 0.5, by a uniform draw in [0, 1)."""
    return tf.cond(draw < FLIP_PROBABILITY, lambda: image[:, ::-1], lambda: image)


def central_crop_and_resize(image: tf.Tensor, size: int) -> tf.Tensor:
    """The central square of 0.875 of the shorter side, resized with bicubic weights.

    uint8 (h, w, 3) -> float32 (size, size, 3) in [0, 1], not clipped.
    """
    shape = tf.shape(image)
    return crop_and_resize(image, central_crop_box(shape[0], shape[1]), size) * TO_UNIT


def central_crop_box(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """The central square of 0.875 of the shorter side: int32 (4,), y, x, height, width in pixels.

    Rounds the side to the nearest pixel and the offset up, as the official code does.
    """
    limit = tf.cast(tf.minimum(height, width), tf.float32)
    side = tf.cast(tf.math.rint(_EVAL_CROP_PROPORTION * limit), tf.int32)
    return tf.stack([(height - side + 1) // 2, (width - side + 1) // 2, side, side])


def gaussian_kernel(radius: int, sigma: float) -> tf.Tensor:
    """Normalised Gaussian weights, float32 (2 radius + 1,); sigma in pixels."""
    offsets = tf.range(-radius, radius + 1, dtype=tf.float32)
    weights = tf.exp(-tf.square(offsets) / (2.0 * tf.square(tf.cast(sigma, tf.float32))))
    return weights / tf.reduce_sum(weights)


def gaussian_blur(images: tf.Tensor, kernel_size: int, sigma: float) -> tf.Tensor:
    """Blurs (batch, h, w, c) with 2 (kernel_size // 2) + 1 taps a side, SAME zero padding."""
    weights = gaussian_kernel(kernel_size // 2, sigma)
    channels = images.shape[-1]
    for shape in ((-1, 1, 1, 1), (1, -1, 1, 1)):
        kernel = tf.tile(tf.reshape(weights, shape), (1, 1, channels, 1))
        kernel = tf.cast(kernel, images.dtype)
        images = tf.nn.depthwise_conv2d(images, kernel, strides=(1, 1, 1, 1), padding="SAME")
    return images


def uniform(shape: Sequence, seed: tf.Tensor) -> tf.Tensor:
    """Floats in [0, 1), from a seed the same on every device, compiled by XLA or not.

    stateless_uniform draws such floats from other bits of the same Philox number under XLA
    (tensorflow issue 117644); its integers are the same. The floats are those it draws without XLA.
    """
    bits = tf.random.stateless_uniform(
        shape, seed, minval=None, maxval=None, dtype=tf.int32, alg="philox"
    )
    mantissa = tf.bitwise.bitwise_and(bits, 2**23 - 1)
    return tf.cast(mantissa, tf.float32) * 2.0**-23


def random_blur(
    images: tf.Tensor, seed: tf.Tensor, *, image_size: int, probability: float = 0.5
) -> tf.Tensor:
    """Blurs each image of a batch of one view with the given probability, and clips to [0, 1].

    The kernel is image_size // 10 pixels. A deliberate quirk of the official code: ONE sigma,
    uniform in [0.1, 2] pixels, for the whole batch, where the paper (appendix A) draws one for each
    image. Runs on the device as part of the step: a seed gives the same numbers there, whichever
    device it is and whether XLA compiles the step or not.

    Args:
      images: (batch, h, w, 3) in [0, 1].
      seed: integers (2,).
      image_size: side of a view in pixels.
      probability: of an image to be blurred.

    Returns:
      Like images.
    """
    # Not the default algorithm, which differs from device to device.
    seeds = tf.random.experimental.stateless_split(seed, 2, alg="philox")
    sigma_seed, choice_seed = tf.unstack(seeds)
    low, high = _BLUR_SIGMA_RANGE
    sigma = uniform([], sigma_seed) * (high - low) + low
    batch_size = images.shape[0] or tf.shape(images)[0]
    chosen = uniform([batch_size, 1, 1, 1], choice_seed) < probability
    blurred = gaussian_blur(images, image_size // 10, sigma)
    return tf.cast(color.clip(tf.where(chosen, blurred, images)), images.dtype)


def pretraining_view(
    image: tf.Tensor,
    box: tf.Tensor,
    seed: tf.Tensor,
    *,
    image_size: int,
    strength: float,
    impl: str = "simclrv2",
) -> tf.Tensor:
    """A crop, flipped with p = 0.5, and colour distortion; blur follows on the batch.

    Args:
      image: uint8 (h, w, 3).
      box: of the crop, as `random_crop_box` has it.
      seed: integers (2,).
      image_size: side of the view.
      strength: as `color.color_jitter` has it.
      impl: likewise.

    Returns:
      float32 (image_size, image_size, 3) in [0, 1].
    """
    # One draw for everything: on small images the cost is the number of ops, not of pixels.
    draws = tf.random.stateless_uniform([1 + color.NUM_DRAWS], seed)
    finish = _finish_compiled if is_compiled(image_size) else _finish
    resized = crop_and_resize(image, box, image_size)
    return finish(resized, draws[0], draws[1:], strength=strength, impl=impl)


def is_compiled(image_size: int) -> bool:
    """Whether XLA compiles what pretraining views of this size go through after their resize."""
    return image_size > SMALL_SIZE


def _finish(resized, flip, draws, *, strength: float, impl: str) -> tf.Tensor:
    """A resized crop (s, s, 3) of 0 to 255 -> scaled, perhaps mirrored and distorted."""
    image = random_flip(resized * TO_UNIT, flip)
    return color.distort(image, draws, strength=strength, impl=impl)


@tf.function(jit_compile=True, autograph=False)
def _finish_compiled(resized, flip, draws, *, strength: float, impl: str) -> tf.Tensor:
    """The same but for rounding."""
    planes = tf.transpose(resized, (2, 0, 1)) * TO_UNIT
    planes = tf.unstack(tf.where(flip < FLIP_PROBABILITY, planes[..., ::-1], planes))
    planes = color.distort_planes(planes, draws, strength=strength, impl=impl)
    red, green, blue = (plane[..., tf.newaxis] for plane in planes)
    channel = tf.range(3)
    return tf.where(channel == 0, red, tf.where(channel == 1, green, blue))


def finetuning_view(
    image: tf.Tensor, box: tf.Tensor, seed: tf.Tensor, *, image_size: int
) -> tf.Tensor:
    """As pretraining_view, without colour distortion."""
    resized = crop_and_resize(image, box, image_size)
    return color.clip(random_flip(resized, tf.random.stateless_uniform([], seed)) * TO_UNIT)


def evaluation_view(image: tf.Tensor, *, image_size: int) -> tf.Tensor:
    """The fixed view of evaluation: uint8 (h, w, 3) -> float32 in [0, 1].

    Central crop for image_size > 32. Up to 32 the whole image, resized only if it has another size
    (the official code then fails). Returns (image_size, image_size, 3).
    """
    if image_size > SMALL_SIZE:
        return color.clip(central_crop_and_resize(image, image_size))
    # At equal sizes the bicubic weights are exactly 0 and 1.
    return color.clip(_bicubic(image, image_size) * TO_UNIT)


def evaluation_preparation(
    image_size: int, image_range: tuple[int, int] | None = None
) -> dict[str, object]:
    """Says in data what `evaluation_view` does, for users of an export (docs/exporting.md).

    Args:
      image_size: side of the view in pixels.
      image_range: the values of 16-bit images that become black and white.

    Returns:
      What goes into about.json; crop_proportion is None where the whole image is taken.
    """
    return {
        "image_size": image_size,
        "crop_proportion": _EVAL_CROP_PROPORTION if image_size > SMALL_SIZE else None,
        "interpolation": "bicubic",
        "antialias": False,
        "value_range": [0.0, 1.0],
        "image_range": list(image_range) if image_range else None,
    }
