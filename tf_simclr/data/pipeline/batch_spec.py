"""What the input pipeline promises to the step: shapes, dtypes and a static batch size.

The pipelines' last op asserts it, so that what does not fit is found where it is made and not in
the first step of a run.
"""

from typing import NamedTuple

import tensorflow as tf

from tf_simclr.data.batch import CropBatch, EvalBatch, ImageBatch, TrainBatch, ViewBatch, num_views
from tf_simclr.data.sources.tfds_source import Source


def of_training(
    source: Source,
    *,
    train_mode: str,
    image_size: int,
    batch_size: int,
    augment_on_device: bool,
    travels_whole: bool,
) -> TrainBatch:
    """Returns the element_spec of `batches.train_batches`.

    Args:
      augment_on_device: the device finishes the views.
      travels_whole: it crops them, too.
    """
    views = num_views(train_mode)
    shape = (batch_size, views, image_size, image_size, 3)
    rest = _labels(source, batch_size), _one_each(batch_size)
    if travels_whole:
        images = tf.TensorSpec((batch_size, *source.image_shape[:2], 3), tf.uint8)
        return ImageBatch(images, tf.TensorSpec((batch_size, views, 4), tf.int32), *rest)
    if augment_on_device:
        return CropBatch(tf.TensorSpec(shape, tf.uint8), *rest)
    return ViewBatch(tf.TensorSpec(shape, tf.float32), *rest)


def of_evaluation(source: Source, *, image_size: int, batch_size: int) -> EvalBatch:
    """Returns the element_spec of `batches.eval_batches`."""
    images = tf.TensorSpec((batch_size, image_size, image_size, 3), tf.float32)
    ones = _one_each(batch_size)
    return EvalBatch(images, _labels(source, batch_size), ones, ones)


def with_shapes(batch: NamedTuple, spec: NamedTuple) -> NamedTuple:
    """A batch with its static shapes, which some ops lose.

    Raises:
      ValueError: when built, where ranks or known sizes differ; at run time where the sizes do.
    """
    return tf.nest.map_structure(
        lambda tensor, part: tf.ensure_shape(tensor, part.shape), batch, spec
    )


def check(dataset: tf.data.Dataset, spec: tuple):
    """Raises AssertionError where a dataset does not keep what the spec promises."""
    assert dataset.element_spec == spec, (dataset.element_spec, spec)


def _labels(source: Source, batch_size: int) -> tf.TensorSpec:
    return tf.TensorSpec((batch_size, source.num_classes or 0), tf.float32)


def _one_each(batch_size: int) -> tf.TensorSpec:
    return tf.TensorSpec((batch_size,), tf.float32)
