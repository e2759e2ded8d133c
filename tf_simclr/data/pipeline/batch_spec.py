"""The specs of batches: shapes, dtypes and a static batch size.

Each pipeline checks its spec when it is built, so errors surface here rather than in the first step
of a run.
"""

from typing import TypeVar

import tensorflow as tf

from tf_simclr.data.batch import CropBatch, EvalBatch, ImageBatch, ViewBatch
from tf_simclr.data.pipeline.settings import ViewSettings
from tf_simclr.data.sources.protocol import Source

_Batch = TypeVar("_Batch", bound=tuple)


def view_spec(source: Source, views: ViewSettings, batch_size: int) -> ViewBatch:
    """Returns the element_spec of batches whose views lack only the blur."""
    shape = (batch_size, *views.shape)
    labels, skipped = _labels(source, batch_size), _per_example(batch_size)
    return ViewBatch(tf.TensorSpec(shape, tf.float32), labels, skipped)


def crop_spec(source: Source, views: ViewSettings, batch_size: int) -> CropBatch:
    """Returns the element_spec of batches whose crops are resized on the host."""
    shape = (batch_size, *views.shape)
    labels, skipped = _labels(source, batch_size), _per_example(batch_size)
    return CropBatch(tf.TensorSpec(shape, tf.uint8), labels, skipped)


def image_spec(source: Source, views: ViewSettings, batch_size: int) -> ImageBatch:
    """Returns the element_spec of batches of whole images that the device crops."""
    images = tf.TensorSpec((batch_size, *source.image_shape[:2], 3), tf.uint8)
    boxes = tf.TensorSpec((batch_size, views.num_views, 4), tf.int32)
    return ImageBatch(images, boxes, _labels(source, batch_size), _per_example(batch_size))


def evaluation_spec(source: Source, image_size: int, batch_size: int) -> EvalBatch:
    """Returns the element_spec of evaluation batches."""
    images = tf.TensorSpec((batch_size, image_size, image_size, 3), tf.float32)
    ones = _per_example(batch_size)
    return EvalBatch(images, _labels(source, batch_size), ones, ones)


def with_shapes(batch: _Batch, spec: _Batch) -> _Batch:
    """Gives a batch its static shapes, which some ops lose.

    Raises:
      ValueError: ranks or static sizes differ when the graph is built.
      tf.errors.InvalidArgumentError: sizes differ at run time.
    """
    return tf.nest.map_structure(
        lambda tensor, part: tf.ensure_shape(tensor, part.shape), batch, spec
    )


def check(dataset: tf.data.Dataset, spec: tuple) -> None:
    """Raises AssertionError if the dataset does not match the spec."""
    assert dataset.element_spec == spec, (dataset.element_spec, spec)


def _labels(source: Source, batch_size: int) -> tf.TensorSpec:
    return tf.TensorSpec((batch_size, source.num_classes or 0), tf.float32)


def _per_example(batch_size: int) -> tf.TensorSpec:
    return tf.TensorSpec((batch_size,), tf.float32)
