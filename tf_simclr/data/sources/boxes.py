"""Images decoded for the boxes that are cut out of them.

Boxes are int32 (n, 4): y, x, height, width in pixels. Which ones depends on the image's size, so
they come from a function: (height, width), int32 () each -> boxes.
"""

from collections.abc import Callable

import tensorflow as tf


def of_whole(
    decode: Callable, encoded: tf.Tensor, draw_boxes: Callable
) -> tuple[tf.Tensor, tf.Tensor]:
    """decode(encoded), uint8 (h, w, 3), and boxes of it."""
    image = decode(encoded)
    height, width, _ = tf.unstack(tf.shape(image))
    return image, draw_boxes(height, width)


def of_rows(
    decode: Callable, encoded: tf.Tensor, draw_boxes: Callable
) -> tuple[tf.Tensor, tf.Tensor]:
    """As of_whole, but of a JPEG only the rows that boxes need are decoded.

    The pixels are the same: decode must do to a JPEG what TensorFlow's op does. Above those rows
    only the entropy coding is undone, and nothing below them. (Cutting columns off as well saves no
    time, and changes pixels at the edge.) A file that is cut short is decoded whole, so that it is
    an error for any boxes.

    Returns:
      uint8 (rows, w, 3), and the boxes in it.
    """

    def rows():
        height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(encoded))
        boxes = draw_boxes(height, width)
        top = tf.reduce_min(boxes[:, 0])
        bottom = tf.reduce_max(boxes[:, 0] + boxes[:, 2])
        image = tf.io.decode_and_crop_jpeg(encoded, [top, 0, bottom - top, width], channels=3)
        return image, boxes - [top, 0, 0, 0]

    complete = tf.io.is_jpeg(encoded) & (tf.strings.substr(encoded, -2, 2) == b"\xff\xd9")
    return tf.cond(complete, rows, lambda: of_whole(decode, encoded, draw_boxes))
