"""Decodes images for cropping.

The crop boxes depend on the image's size, so a function draws them (`protocol.DrawBoxes`).
"""

from collections.abc import Callable

import tensorflow as tf

from tf_simclr.data.sources.protocol import DrawBoxes


def decode_image(
    decode: Callable, encoded: tf.Tensor, draw_boxes: DrawBoxes
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes a whole image, uint8 (h, w, 3), and draws boxes in it, int32 (n, 4)."""
    image = decode(encoded)
    height, width, _ = tf.unstack(tf.shape(image))
    return image, draw_boxes(height, width)


def decode_needed_rows(
    decode: Callable, encoded: tf.Tensor, draw_boxes: DrawBoxes
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes only the rows that the boxes need, if the image is a JPEG.

    The pixels equal the pixels of `decode_image` if `decode` treats a JPEG as TensorFlow's op does.
    Rows above are only entropy-decoded; rows below are skipped. (Cutting columns off as well would
    save no time and change pixels at the edge.) A truncated file is decoded whole, so it is an
    error for any boxes.

    Returns:
      uint8 (rows, w, 3), and the boxes in it.
    """

    def rows() -> tuple[tf.Tensor, tf.Tensor]:
        height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(encoded))
        boxes = draw_boxes(height, width)
        top = tf.reduce_min(boxes[:, 0])
        bottom = tf.reduce_max(boxes[:, 0] + boxes[:, 2])
        image = tf.io.decode_and_crop_jpeg(encoded, [top, 0, bottom - top, width], channels=3)
        return image, boxes - [top, 0, 0, 0]

    complete = tf.io.is_jpeg(encoded) & (tf.strings.substr(encoded, -2, 2) == b"\xff\xd9")
    return tf.cond(complete, rows, lambda: decode_image(decode, encoded, draw_boxes))
