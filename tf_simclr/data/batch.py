"""The batches that the input pipeline passes to the devices.

The type of a training batch says how much of the augmentation the host has done. In pretraining the
device still has to do:

- ViewBatch: blur.
- CropBatch: flips, color distortion, blur.
- ImageBatch: crops, flips, color distortion, blur.

In fine-tuning and distillation there is neither color distortion nor blur.

Shapes: n images per batch, v views per image (`num_views`), s the side of a view in pixels. All are
static, as TPUs and XLA need.
"""

from typing import NamedTuple

import tensorflow as tf


class ViewBatch(NamedTuple):
    """Views that the host has finished, except for the blur.

    Attributes:
      views: float32 (n, v, s, s, 3) in [0, 1].
      labels: float32 (n, classes), one-hot; a row of zeros for an image without a label. The shape
        is (n, 0) for a data set without classes.
      skipped: float32 (n,), 1 if the image replaces one that cannot be decoded, else 0.
    """

    views: tf.Tensor
    labels: tf.Tensor
    skipped: tf.Tensor


class CropBatch(NamedTuple):
    """Crops that the host has resized. The device flips them and, in pretraining, distorts colors.

    Attributes:
      crops: uint8 (n, v, s, s, 3).
      labels: float32 (n, classes), as in ViewBatch.
      skipped: float32 (n,), as in ViewBatch.
    """

    crops: tf.Tensor
    labels: tf.Tensor
    skipped: tf.Tensor


class ImageBatch(NamedTuple):
    """Whole images of one size, with the boxes that the device crops.

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
    """A batch of evaluation views.

    Attributes:
      images: float32 (n, s, s, 3) in [0, 1].
      labels: float32 (n, classes), as in ViewBatch.
      weights: float32 (n,), 0 for padding and for an image that cannot be decoded, else 1.
      skipped: float32 (n,), 1 for an image that cannot be decoded, else 0.
    """

    images: tf.Tensor
    labels: tf.Tensor
    weights: tf.Tensor
    skipped: tf.Tensor


def num_views(train_mode: str) -> int:
    """Returns the number of views per image in a training batch."""
    return 2 if train_mode == "pretrain" else 1
