"""Draws crop boxes, crops single images and flips them (paper, appendix A; official code).

A box is int32 (4,): y, x, height, width in pixels. Every random op takes a stateless seed.
"""

import tensorflow as tf

from tf_simclr.data.augment.draws import uniform

FLIP_PROBABILITY = 0.5
TO_UNIT = 1 / 255  # scales bytes to [0, 1]; applied after resizing, when there are fewer pixels
EVAL_CROP_PROPORTION = 0.875
_AREA_RANGE = (0.08, 1.0)
_ASPECT_RANGE = (3 / 4, 4 / 3)
_MIN_COVERED = 0.1
_ATTEMPTS = 100


def random_crop_box(seed: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Draws a box of 0.08 to 1 of the area with width / height from 3/4 to 4/3.

    The box is the whole image if no such box is found.

    Args:
      seed: integers (2,).
      height: height of the image in pixels.
      width: width of the image in pixels.

    Returns:
      int32 (4,): y, x, height, width in pixels.
    """
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.stack([height, width, 3]),
        bounding_boxes=tf.zeros([1, 0, 4]),
        seed=seed,
        min_object_covered=_MIN_COVERED,
        aspect_ratio_range=_ASPECT_RANGE,
        area_range=_AREA_RANGE,
        max_attempts=_ATTEMPTS,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], size[:2]], axis=0)


def random_crop_boxes(n: int, seed: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Draws the boxes of n images of one size at once, distributed like `random_crop_box`.

    TensorFlow's op makes one box per call. The draws imitate it: an aspect ratio; a height, uniform
    among the heights whose area is allowed; a position. A box that does not fit or covers too
    little is drawn again, up to 100 times.

    Args:
      n: number of boxes.
      seed: integers (2,).
      height: height of the images in pixels.
      width: width of the images in pixels.

    Returns:
      int32 (n, 4): y, x, height, width in pixels.
    """

    def attempt(i: tf.Tensor, boxes: tf.Tensor, accepted: tf.Tensor) -> tuple:
        draws = uniform([4, n], tf.random.experimental.stateless_fold_in(seed, i, alg="philox"))
        drawn, fits = _draw_boxes(draws, height, width)
        boxes = tf.where((fits & ~accepted)[:, tf.newaxis], drawn, boxes)
        return i + 1, boxes, accepted | fits

    whole_images = tf.tile([[0, 0, height, width]], [n, 1])
    _, boxes, _ = tf.while_loop(
        lambda i, _, accepted: (i < _ATTEMPTS) & ~tf.reduce_all(accepted),
        attempt,
        (tf.constant(0), whole_images, tf.zeros(n, tf.bool)),
    )
    return boxes


def _draw_boxes(draws: tf.Tensor, height: int, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Turns uniform draws (4, n) into boxes (n, 4); also returns which of them fit, bool (n,)."""
    low_ratio, high_ratio = _ASPECT_RANGE
    # TensorFlow's op requires both: an area in its range, and enough of the image covered.
    low_area, high_area = (share * height * width for share in _AREA_RANGE)
    covered = _MIN_COVERED * height * width
    ratio = low_ratio + (high_ratio - low_ratio) * draws[0]
    lowest, highest = _round(tf.sqrt(low_area / ratio)), _round(tf.sqrt(high_area / ratio))
    widest = tf.cast((width + 0.5 - 1e-7) / ratio, tf.int32)
    widest -= tf.cast(_round(tf.cast(widest, tf.float32) * ratio) > width, tf.int32)
    too_wide = _round(tf.cast(highest, tf.float32) * ratio) > width
    highest = tf.minimum(tf.where(too_wide, widest, highest), height)
    lowest = tf.minimum(lowest, highest)
    box_height = lowest + _below(draws[1], highest - lowest + 1)
    box_width = _round(tf.cast(box_height, tf.float32) * ratio)
    # Rounding can exceed the area range by one row.
    area = tf.cast(box_height * box_width, tf.float32)
    box_height += tf.cast(area < low_area, tf.int32) - tf.cast(area > high_area, tf.int32)
    box_width = _round(tf.cast(box_height, tf.float32) * ratio)
    area = tf.cast(box_height * box_width, tf.float32)
    fits = (area >= max(low_area, covered)) & (area <= high_area) & (box_width <= width)
    fits &= (box_height <= height) & (box_width > 0) & (box_height > 0)
    y = _below(draws[2], height - box_height)
    x = _below(draws[3], width - box_width)
    return tf.stack([y, x, box_height, box_width], axis=1), fits


def _round(x: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.math.rint(x), tf.int32)


def _below(draw: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Turns a uniform draw in [0, 1) into an integer in [0, count); 0 for an empty range."""
    scaled = tf.cast(draw * tf.cast(count, tf.float32), tf.int32)
    return tf.maximum(tf.minimum(scaled, count - 1), 0)


def central_crop_box(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Returns the box of the central square whose side is 0.875 of the shorter side.

    Rounds the side to the nearest pixel and the offset up, as the official code does.

    Returns:
      int32 (4,): y, x, height, width in pixels.
    """
    limit = tf.cast(tf.minimum(height, width), tf.float32)
    side = _round(EVAL_CROP_PROPORTION * limit)
    return tf.stack([(height - side + 1) // 2, (width - side + 1) // 2, side, side])


def crop_and_resize(image: tf.Tensor, box: tf.Tensor, size: int) -> tf.Tensor:
    """Resizes a box of an image with bicubic weights. The result may overshoot; callers clip.

    Args:
      image: uint8 (h, w, 3), or images of one size (n, h, w, 3).
      box: int32 (4,): y, x, height, width in pixels.
      size: side of the result in pixels.

    Returns:
      float32 (size, size, 3) or (n, size, size, 3), on the scale of bytes, about 0 to 255.
    """
    y, x, height, width = tf.unstack(box)
    batch = len(image.shape) - 3  # NumPy arrays have no shape.rank
    crop = tf.slice(image, [0] * batch + [y, x, 0], [-1] * batch + [height, width, 3])
    return resize(crop, size)


def crop_and_resize_uint8(image: tf.Tensor, box: tf.Tensor, size: int) -> tf.Tensor:
    """Computes crop_and_resize, clipped and rounded to uint8."""
    resized = crop_and_resize(image, box, size)
    # Clips, rounds and converts in one pass. Three ops would take three times as long.
    rounded, _, _ = tf.raw_ops.QuantizeV2(
        input=resized, min_range=0.0, max_range=255.0, T=tf.quint8, mode="MIN_COMBINED"
    )
    return tf.bitcast(rounded, tf.uint8)


def central_crop_and_resize(image: tf.Tensor, size: int) -> tf.Tensor:
    """Resizes the central square of 0.875 of the shorter side with bicubic weights.

    Args:
      image: uint8 (h, w, 3), or images of one size (n, h, w, 3).
      size: side of the result in pixels.

    Returns:
      float32 (size, size, 3) or (n, size, size, 3) on the scale [0, 1], not clipped.
    """
    height, width, _ = tf.unstack(tf.shape(image)[-3:])
    return crop_and_resize(image, central_crop_box(height, width), size) * TO_UNIT


def resize(image: tf.Tensor, size: int) -> tf.Tensor:
    """Resizes uint8 (..., h, w, 3) to float32 (..., size, size, 3), bicubic; not clipped."""
    # The op also accepts bytes, but reads each one about 16 times and converts it each time.
    resized = tf.image.resize(
        tf.cast(image, tf.float32), (size, size), tf.image.ResizeMethod.BICUBIC
    )
    return tf.ensure_shape(resized, (*image.shape[:-3], size, size, 3))


def random_flip(image: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
    """Mirrors an image (h, w, c) left to right if a uniform draw in [0, 1) is below 0.5."""
    return tf.cond(draw < FLIP_PROBABILITY, lambda: image[:, ::-1], lambda: image)
