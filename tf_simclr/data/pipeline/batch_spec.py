"""What the input pipeline promises to the step: shapes, dtypes and a static batch size.

The pipelines' last op asserts it, so that what does not fit is found where it is made and not in
the first step of a run.
"""

import tensorflow as tf

from tf_simclr.data.sources.tfds_source import Source


def num_views(train_mode: str) -> int:
    """How many views of an image a training batch holds."""
    return 2 if train_mode == "pretrain" else 1


def of_training(
    source: Source,
    *,
    train_mode: str,
    image_size: int,
    batch_size: int,
    augment_on_device: bool,
    travels_whole: bool,
) -> tuple:
    """The element_spec of `pipeline.train_batches`: (images, labels, skipped).

    Args:
      augment_on_device: images are a dictionary of bytes, for the device to finish.
      travels_whole: and these bytes are whole images, with the boxes to cut out of them.
    """
    views = num_views(train_mode)
    shape = (batch_size, views, image_size, image_size, 3)
    if travels_whole:
        images = {
            "images": tf.TensorSpec((batch_size, *source.image_shape[:2], 3), tf.uint8),
            "boxes": tf.TensorSpec((batch_size, views, 4), tf.int32),
        }
    elif augment_on_device:
        images = {"images": tf.TensorSpec(shape, tf.uint8)}
    else:
        images = tf.TensorSpec(shape, tf.float32)
    return images, *_labels(source, batch_size), _one_each(batch_size)


def of_evaluation(source: Source, *, image_size: int, batch_size: int) -> tuple:
    """The element_spec of `pipeline.eval_batches`: (images, labels, weights, skipped)."""
    images = tf.TensorSpec((batch_size, image_size, image_size, 3), tf.float32)
    return images, *_labels(source, batch_size), _one_each(batch_size), _one_each(batch_size)


def with_shapes(batch: tuple, spec: tuple) -> tuple:
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


def _labels(source: Source, batch_size: int) -> tuple[tf.TensorSpec]:
    return (tf.TensorSpec((batch_size, source.num_classes or 0), tf.float32),)


def _one_each(batch_size: int) -> tf.TensorSpec:
    return tf.TensorSpec((batch_size,), tf.float32)
