"""SimCLR's augmentation of whole batches, where the model computes: the device's part of the work.

The same distributions as `augment`, image by image another factor, but in ops on batches of static
shape, which XLA compiles. The colour ops come in random order. Instead of branching, a batch is cut
in four groups, which run the four cyclic shifts of one random permutation: at each stage each op
works on one group, and every image's order is uniform over all 24, though not independent of its
neighbours'.

Images arrive as uint8: rounding takes at most 1/510 off a view that the host has resized.
"""

import tensorflow as tf

from tf_simclr.data.augment import color, host
from tf_simclr.data.augment import planes as plane_ops
from tf_simclr.data.augment.color import NUM_OPS


def crop_and_resize(images, boxes, flips, size: int) -> tf.Tensor:
    """Boxes of images, resized with the bicubic weights of tf.image.resize, perhaps mirrored.

    Resizing is linear in rows and in columns: a small matrix an image and direction.

    Args:
      images: (n, h, w, 3) uint8.
      boxes: int32 (n, 4), y, x, height, width in pixels.
      flips: bool (n,).
      size: side of the result.

    Returns:
      float32 (n, size, size, 3) in [0, 1].
    """
    n, height, width, channels = images.shape
    y, x, box_height, box_width = tf.unstack(boxes, axis=1)
    rows = _bicubic_weights(y, box_height, height, size)  # (n, size, h)
    columns = _bicubic_weights(x, box_width, width, size)
    columns = tf.where(flips[:, tf.newaxis, tf.newaxis], tf.reverse(columns, [1]), columns)
    # Scaled last: a device that rounds factors to bfloat16 rounds no byte.
    pixels = tf.reshape(tf.cast(images, tf.float32), (n, height, width * channels))
    lines = tf.reshape(tf.matmul(rows, pixels), (n, size, width, channels))
    # Plane by plane, as colours are computed: XLA need put nothing together only to take it apart.
    planes = tf.reshape(tf.transpose(lines, (0, 3, 1, 2)), (n, channels * size, width))
    planes = tf.reshape(tf.matmul(planes, columns, transpose_b=True), (n, channels, size, size))
    result = tf.transpose(planes, (0, 2, 3, 1))
    return tf.clip_by_value(result * host.TO_UNIT, 0.0, 1.0)


def _bicubic_weights(begin, extent, source_size: int, size: int) -> tf.Tensor:
    """Weights (n, size, source_size) of the pixels of a row for each pixel of the result.

    Keys's kernel with a = -0.5 about the centre of the pixel; pixels outside of the box have no
    weight, and the others are scaled to sum to 1. As in tf.image.resize, whose table of weights
    has 1024 steps a pixel.
    """
    scale = tf.cast(extent, tf.float32)[:, tf.newaxis] / size
    centre = (tf.range(size, dtype=tf.float32) + 0.5) * scale - 0.5  # (n, size), in the box
    whole = tf.floor(centre)
    centre = whole + tf.round((centre - whole) * 1024.0) / 1024.0
    place = tf.range(source_size)[tf.newaxis] - begin[:, tf.newaxis]  # (n, source_size)
    inside = (place >= 0) & (place < extent[:, tf.newaxis])
    d = tf.abs(tf.cast(place, tf.float32)[:, tf.newaxis] - centre[:, :, tf.newaxis])
    near = (1.5 * d - 2.5) * d * d + 1.0
    far = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    weights = tf.where(d <= 1.0, near, tf.where(d < 2.0, far, 0.0))
    weights = tf.where(inside[:, tf.newaxis], weights, 0.0)
    return weights / tf.reduce_sum(weights, axis=-1, keepdims=True)


def random_flips(n: int, seed) -> tf.Tensor:
    """bool (n,), True with p = 0.5."""
    return host.uniform([n], seed) < host.FLIP_PROBABILITY


def flip(images, flips) -> tf.Tensor:
    """Mirrors those images (n, h, w, c) left to right."""
    return tf.where(flips[:, tf.newaxis, tf.newaxis, tf.newaxis], images[:, :, ::-1], images)


def to_float(images) -> tf.Tensor:
    """uint8 -> float32 in [0, 1]."""
    return tf.cast(images, tf.float32) * host.TO_UNIT


def color_distortion(images, seed, *, strength: float, impl: str) -> tf.Tensor:
    """`color.color_distortion` of each image of a batch.

    Args:
      images: float32 (n, h, w, 3) in [0, 1]; n is static.
      seed: integers (2,).
      strength: s of the paper's appendix A.
      impl: "simclrv2" or "simclrv1".

    Returns:
      Like images.
    """
    n = images.shape[0]
    draws = host.uniform([n + 1, NUM_OPS + 2], seed)
    lows, widths = color.jitter_ranges(strength, impl)
    amounts = draws[:n, :NUM_OPS] * widths + lows
    order = tf.argsort(draws[n, :NUM_OPS])
    planes = tf.unstack(images, axis=-1)
    jittered = _jitter(planes, amounts, order, impl)
    chosen = (draws[:n, NUM_OPS] < color.JITTER_PROBABILITY)[:, tf.newaxis, tf.newaxis]
    planes = [tf.where(chosen, new, old) for new, old in zip(jittered, planes, strict=True)]
    chosen = (draws[:n, NUM_OPS + 1] < color.GRAYSCALE_PROBABILITY)[:, tf.newaxis, tf.newaxis]
    luma = plane_ops.luma(planes)
    planes = [tf.where(chosen, luma, plane) for plane in planes]
    return tf.clip_by_value(tf.stack(planes, axis=-1), 0.0, 1.0)


def _jitter(planes: list, amounts, order, impl: str) -> list:
    """The four ops in the orders that are the cyclic shifts of one, group by group.

    Args:
      planes: of red, green and blue, (n, h, w).
      amounts: (n, 4), for brightness, contrast, saturation, hue.
      order: int32 (4,), a permutation: group g runs order[g], order[g + 1], ...
      impl: of the brightness.
    """
    n = amounts.shape[0]
    per_group = -(-n // NUM_OPS)
    padding = NUM_OPS * per_group - n
    if padding:
        planes = [tf.pad(plane, [[0, padding], [0, 0], [0, 0]]) for plane in planes]
        amounts = tf.pad(amounts, [[0, padding], [0, 0]])
    amounts = tf.reshape(amounts, (NUM_OPS, per_group, NUM_OPS))
    shape = (per_group, *planes[0].shape[1:])

    def store(groups: list[list]) -> tf.TensorArray:
        """The planes of groups, one after the other, of which one can be taken by its number.

        An array: XLA would ask of each pixel of a stack of planes which of them it is in.
        """
        array = tf.TensorArray(
            planes[0].dtype, 3 * NUM_OPS, element_shape=shape, clear_after_read=False
        )
        for i, plane in enumerate(plane for group in groups for plane in group):
            array = array.write(i, plane)
        return array

    def take(array: tf.TensorArray, number) -> list:
        return [array.read(3 * number + i) for i in range(3)]

    place = tf.argsort(order)
    # At stage t op j works on group place[j] - t. From one stage to the next groups move to the op
    # that comes after in the order, the same way each time.
    sources = [place[j] for j in range(NUM_OPS)]
    stored = store(
        [[plane[g * per_group : (g + 1) * per_group] for plane in planes] for g in range(NUM_OPS)]
    )
    for stage in range(NUM_OPS):
        results = []
        for j, op in enumerate(plane_ops.jitter_ops(impl)):
            amount = tf.gather(amounts, (place[j] - stage) % NUM_OPS)[:, j]
            changed = op(take(stored, sources[j]), amount[:, tf.newaxis, tf.newaxis])
            results.append(plane_ops.clip(changed))
        stored = store(results)
        sources = [tf.gather(order, (place[j] - 1) % NUM_OPS) for j in range(NUM_OPS)]
    # Group g ended with the op before its first one.
    groups = [take(stored, tf.gather(order, (g - 1) % NUM_OPS)) for g in range(NUM_OPS)]
    return [tf.concat(plane, axis=0)[:n] for plane in zip(*groups, strict=True)]
