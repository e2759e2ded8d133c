"""What travels from the input pipeline to the devices.

The type of a training batch says which part of the views the host has made. What is left for the
device is the blur (ViewBatch), flips and color distortion as well (CropBatch), or everything from
the crops on (ImageBatch).

Shapes: n images of a batch, v views of an image (`num_views`), s the side of a view in pixels. All
of them are static, as TPUs and XLA need.
"""

from typing import NamedTuple

import tensorflow as tf


class ViewBatch(NamedTuple):
    """Views that the host has finished, except for the blur.

    Attributes:
      views: float32 (n, v, s, s, 3) in [0, 1].
      labels: float32 (n, classes), one-hot; a row of zeros for an image without a label. For a data
        set without classes it is (n, 0).
      skipped: float32 (n,), 1 where another image stands in for one that cannot be decoded.
    """

    views: tf.Tensor
    labels: tf.Tensor
    skipped: tf.Tensor


class CropBatch(NamedTuple):
    """Crops that the host has resized; the device flips them and distorts their colors.

    Attributes:
      crops: uint8 (n, v, s, s, 3).
      labels: float32 (n, classes), as in ViewBatch.
      skipped: float32 (n,), as in ViewBatch.
    """

    crops: tf.Tensor
    labels: tf.Tensor
    skipped: tf.Tensor


class ImageBatch(NamedTuple):
    """Whole images of one size, with the boxes that the device crops out of them.

    Attributes:
      images: uint8 (n, h, w, 3).
      boxes: int32 (n, v, 4): y, x, height, width in pixels.
      labels: float32 (n, classes), as in ViewBatch.
      skipped: float32 (n,), as in ViewBatch.
    """

    images: tf.Tensor
    boxes: tf.Tensor
    labels: tf.Tensor
    skipped: tf.Tensor


TrainBatch = ViewBatch | CropBatch | ImageBatch


class EvalBatch(NamedTuple):
    """Evaluation views.

    Attributes:
      images: float32 (n, s, s, 3) in [0, 1].
      labels: float32 (n, classes), as in ViewBatch.
      weights: float32 (n,), 0 for padding and for an image that cannot be decoded, otherwise 1.
      skipped: float32 (n,), 1 for an image that cannot be decoded.
    """

    images: tf.Tensor
    labels: tf.Tensor
    weights: tf.Tensor
    skipped: tf.Tensor


def num_views(train_mode: str) -> int:
    """Returns how many views of an image a training batch holds."""
    return 2 if train_mode == "pretrain" else 1
