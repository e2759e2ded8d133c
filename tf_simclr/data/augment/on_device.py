"""Augments whole batches on the device that computes the model (--augment_on=device).

The views have the distribution of the host's views, but are drawn from different random numbers.
Batches have a static shape, so XLA can compile the ops. Images arrive as uint8: for a view that the
host has resized, rounding changes a pixel by at most 1/510.
"""

import tensorflow as tf

from tf_simclr.data.augment import color
from tf_simclr.data.augment.color import NUM_OPS, Distortion, Planes
from tf_simclr.data.augment.crop import FLIP_PROBABILITY, TO_UNIT
from tf_simclr.data.augment.draws import uniform


def crop_and_resize(images: tf.Tensor, boxes: tf.Tensor, flips: tf.Tensor, size: int) -> tf.Tensor:
    """Resizes boxes of images with the bicubic weights of tf.image.resize, and mirrors some.

    Resizing is linear in rows and in columns: one small matrix per image and direction.

    Args:
      images: (n, h, w, 3) uint8.
      boxes: int32 (n, 4), y, x, height, width in pixels.
      flips: bool (n,), which images to mirror.
      size: side of the result in pixels.

    Returns:
      float32 (n, size, size, 3) in [0, 1].
    """
    n, height, width, channels = images.shape
    y, x, box_height, box_width = tf.unstack(boxes, axis=1)
    rows = _bicubic_weights(y, box_height, height, size)  # (n, size, h)
    columns = _bicubic_weights(x, box_width, width, size)
    columns = tf.where(flips[:, tf.newaxis, tf.newaxis], tf.reverse(columns, [1]), columns)
    # Scale last: some devices round the operands of a matmul to bfloat16, where bytes are exact.
    pixels = tf.reshape(tf.cast(images, tf.float32), (n, height, width * channels))
    lines = tf.reshape(tf.matmul(rows, pixels), (n, size, width, channels))
    # The color operations also work on planes. This layout avoids a transpose in XLA.
    planes = tf.reshape(tf.transpose(lines, (0, 3, 1, 2)), (n, channels * size, width))
    planes = tf.reshape(tf.matmul(planes, columns, transpose_b=True), (n, channels, size, size))
    result = tf.transpose(planes, (0, 2, 3, 1))
    return color.clip(result * TO_UNIT)


def _bicubic_weights(begin: tf.Tensor, extent: tf.Tensor, source_size: int, size: int) -> tf.Tensor:
    """Computes the weights (n, size, source_size) of a row's pixels for each pixel of the result.

    The weights are Keys's kernel with a = -0.5 about the center of the pixel. Pixels outside of the
    box have weight 0, and the weights are scaled to sum to 1. As in tf.image.resize, the kernel is
    a table with 1024 steps per pixel.

    Args:
      begin: int32 (n,), first pixel of each box.
      extent: int32 (n,), number of pixels of each box.
      source_size: pixels in a row of the image.
      size: pixels in a row of the result.
    """
    scale = tf.cast(extent, tf.float32)[:, tf.newaxis] / size
    center = (tf.range(size, dtype=tf.float32) + 0.5) * scale - 0.5  # (n, size), in the box
    pixel = tf.floor(center)
    center = pixel + tf.round((center - pixel) * 1024.0) / 1024.0
    position = tf.range(source_size)[tf.newaxis] - begin[:, tf.newaxis]  # (n, source_size)
    inside = (position >= 0) & (position < extent[:, tf.newaxis])
    d = tf.abs(tf.cast(position, tf.float32)[:, tf.newaxis] - center[:, :, tf.newaxis])
    near = (1.5 * d - 2.5) * d * d + 1.0
    far = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    weights = tf.where(d <= 1.0, near, tf.where(d < 2.0, far, 0.0))
    weights = tf.where(inside[:, tf.newaxis], weights, 0.0)
    return weights / tf.reduce_sum(weights, axis=-1, keepdims=True)


def random_flips(n: int, seed: tf.Tensor) -> tf.Tensor:
    """Draws which of n images to mirror, each with p = 0.5: bool (n,)."""
    return uniform([n], seed) < FLIP_PROBABILITY


def flip(images: tf.Tensor, flips: tf.Tensor) -> tf.Tensor:
    """Mirrors the images (n, h, w, c) with flips True, bool (n,), left to right."""
    return tf.where(flips[:, tf.newaxis, tf.newaxis, tf.newaxis], images[:, :, ::-1], images)


def to_float(images: tf.Tensor) -> tf.Tensor:
    """Converts uint8 to float32 in [0, 1]."""
    return tf.cast(images, tf.float32) * TO_UNIT


def color_distortion(
    images: tf.Tensor, seed: tf.Tensor, *, strength: float, impl: str
) -> tf.Tensor:
    """Applies color jitter with p = 0.8, then grayscale with p = 0.2, to each image of a batch.

    Args:
      images: float32 (n, h, w, 3) in [0, 1]; n is static.
      seed: integers (2,).
      strength: s in the paper's appendix A.
      impl: "simclrv2" or "simclrv1".

    Returns:
      float32 (n, h, w, 3) in [0, 1].

    Raises:
      ValueError: unknown impl.
    """
    drawn = distortion(images.shape[0], seed, strength=strength, impl=impl)
    planes = tf.unstack(images, axis=-1)
    jittered = _jitter(planes, drawn.amounts, drawn.order, impl)
    chosen = drawn.jitters[:, tf.newaxis, tf.newaxis]
    planes = [tf.where(chosen, new, old) for new, old in zip(jittered, planes, strict=True)]
    chosen = drawn.grays[:, tf.newaxis, tf.newaxis]
    luma = color.luma(planes)
    planes = [tf.where(chosen, luma, plane) for plane in planes]
    return color.clip(tf.stack(planes, axis=-1))


def distortion(n: int, seed: tf.Tensor, *, strength: float, impl: str) -> Distortion:
    """Draws the color distortion of a batch of n images."""
    draws = uniform([n + 1, NUM_OPS + 2], seed)
    return Distortion(
        amounts=color.jitter_amounts(draws[:n, :NUM_OPS], strength=strength, impl=impl),
        order=tf.argsort(draws[n, :NUM_OPS]),
        jitters=draws[:n, NUM_OPS] < color.JITTER_PROBABILITY,
        grays=draws[:n, NUM_OPS + 1] < color.GRAYSCALE_PROBABILITY,
    )


def order_of_image(order: tf.Tensor, index: int, n: int) -> tf.Tensor:
    """Returns the order, int32 (4,), in which an image of a batch runs the operations (`_jitter`).

    Args:
      order: the batch's permutation, int32 (4,).
      index: index of the image in the batch.
      n: number of images in the batch.
    """
    return tf.roll(order, -(index // _per_group(n)), axis=0)


def _per_group(n: int) -> int:
    """Returns the number of images in a group of `_jitter`; the last groups may have fewer."""
    return -(-n // NUM_OPS)


def _jitter(planes: Planes, amounts: tf.Tensor, order: tf.Tensor, impl: str) -> Planes:
    """Runs the four operations in random orders without branching.

    The batch is cut into four groups, which run the four cyclic shifts of one random permutation.
    At each stage, each operation works on one group. Each image's order is uniform over all 24
    orders, but not independent of the orders of other images.

    Args:
      planes: [red, green, blue], (n, h, w) each.
      amounts: (n, 4), in the order of color.operations.
      order: int32 (4,), a permutation: group g runs order[g], order[g + 1], ...
      impl: "simclrv2" or "simclrv1".
    """
    n = amounts.shape[0]
    per_group = _per_group(n)
    padding = NUM_OPS * per_group - n
    if padding:
        planes = [tf.pad(plane, [[0, padding], [0, 0], [0, 0]]) for plane in planes]
        amounts = tf.pad(amounts, [[0, padding], [0, 0]])
    amounts = tf.reshape(amounts, (NUM_OPS, per_group, NUM_OPS))
    rank = tf.argsort(order)

    def run_stage(stage: tf.Tensor, indices: tf.Tensor, stored: tf.TensorArray) -> tuple:
        results = []
        for j, op in enumerate(color.operations(impl)):
            amount = tf.gather(amounts, (rank[j] - stage) % NUM_OPS)[:, j]
            changed = op.on_planes(_take(stored, indices[j]), amount[:, tf.newaxis, tf.newaxis])
            results.append(color.clip_planes(changed))
        # Between stages, each group moves to the next operation in the order.
        return stage + 1, tf.gather(order, (rank - 1) % NUM_OPS), _store(results)

    # At stage t, operation j works on group rank[j] - t. A loop is compiled once for all stages.
    groups = [
        [plane[g * per_group : (g + 1) * per_group] for plane in planes] for g in range(NUM_OPS)
    ]
    _, _, stored = tf.while_loop(
        lambda stage, *_: stage < NUM_OPS,
        run_stage,
        (tf.constant(0), rank, _store(groups)),
        maximum_iterations=NUM_OPS,
    )
    # Group g ended with the operation before its first one.
    groups = [_take(stored, tf.gather(order, (g - 1) % NUM_OPS)) for g in range(NUM_OPS)]
    return [tf.concat(plane, axis=0)[:n] for plane in zip(*groups, strict=True)]


def _store(groups: list[Planes]) -> tf.TensorArray:
    """Stores the planes of all groups in an array, from which `_take` reads a group by its index.

    With a stacked tensor instead, XLA would evaluate a plane index per pixel.
    """
    planes = [plane for group in groups for plane in group]
    array = tf.TensorArray(
        planes[0].dtype, len(planes), element_shape=planes[0].shape, clear_after_read=False
    )
    for i, plane in enumerate(planes):
        array = array.write(i, plane)
    return array


def _take(array: tf.TensorArray, group: tf.Tensor) -> Planes:
    """Reads the three planes of a group from the array of `_store`."""
    return [array.read(3 * group + i) for i in range(3)]
