"""Makes training and evaluation batches from a Source."""

import tensorflow as tf

from tf_simclr.data.augment import views as image_views
from tf_simclr.data.batch import EvalBatch, TrainBatch
from tf_simclr.data.pipeline import batch_spec, device_crops, groups, host_views, undecodable
from tf_simclr.data.pipeline.settings import (
    WHOLE_SPLIT,
    Shard,
    StreamSettings,
    ViewSettings,
)
from tf_simclr.data.pipeline.stream import Stream
from tf_simclr.data.sources.protocol import UNLABELED, Source


def train_batches(source: Source, settings: StreamSettings, views: ViewSettings) -> tf.data.Dataset:
    """Makes the endless training stream.

    Each epoch holds each example once, in its own order. No batch holds an example twice, except
    for stand-ins for undecodable examples (`undecodable`) and epochs shorter than a step.

    Returns:
      Dataset of ViewBatch. With augment_on_device: Dataset of CropBatch, or of ImageBatch if the
      device also crops (`device_crops.crops_on_device`).

    Raises:
      ConfigError: unknown split, or fewer examples than shards.
    """
    stream = Stream.open(source, settings, views)
    batch_size = settings.batch_size
    if not views.augment_on_device:
        finished_views = host_views.batches(stream, views)
        return _one_hot_and_prefetch(
            finished_views, batch_spec.view_spec(source, views, batch_size)
        )
    # A tf.data service takes work off this machine, so it makes the crops.
    if settings.service or not device_crops.crops_on_device(
        source, image_size=views.image_size, train_mode=views.train_mode
    ):
        crops = host_views.batches(stream, views)
        return _one_hot_and_prefetch(crops, batch_spec.crop_spec(source, views, batch_size))
    images = device_crops.batches(stream, views)
    return _one_hot_and_prefetch(images, batch_spec.image_spec(source, views, batch_size))


def eval_batches(
    source: Source,
    *,
    split: str,
    image_size: int,
    batch_size: int,
    strict: bool,
    shard: Shard = WHOLE_SPLIT,
    first_batch: int = 0,
) -> tf.data.Dataset:
    """Makes one pass over a split in order, with every example once.

    All shards have the same number of batches, and all batches are full: the last ones are padded
    with zeros of weight 0. An example that cannot be decoded is blank and also has weight 0.

    Args:
      source: the data set.
      split: TFDS split.
      image_size: side of a view in pixels.
      batch_size: batch size of this shard.
      strict: raise an error for an example that cannot be decoded.
      shard: the part of the split that this input pipeline reads.
      first_batch: number of batches to skip, without decoding their images.

    Returns:
      Dataset of EvalBatch.

    Raises:
      ConfigError: unknown or empty split, or fewer examples than shards.
    """
    part = source.part_of_split(split, shard.count, shard.index, flag="eval_split")
    largest_part = -(-source.num_examples(split) // shard.count)
    num_batches = -(-largest_part // batch_size)
    one_view_spec = tf.TensorSpec((image_size, image_size, 3), tf.float32)

    def view(encoded: tf.Tensor) -> tf.Tensor:
        return image_views.evaluation_view(source.decode(encoded), image_size=image_size)

    def group(example: dict[str, tf.Tensor]) -> EvalBatch:
        images, is_decodable = undecodable.map_decodable(
            view,
            source,
            example,
            spec=one_view_spec,
            name=f"dataset {source.name}, split {part}",
            strict=strict,
        )
        weights = tf.cast(is_decodable, tf.float32)
        return EvalBatch(images, example["label"], weights, 1.0 - weights)

    dataset = source.encoded_examples(part, with_id=strict).skip(first_batch * batch_size)
    dataset = dataset.batch(groups.examples_in_group(one_view_spec))
    dataset = groups.parallel_map(dataset, group).unbatch()
    image, label, *zeros = (tf.zeros(spec.shape, spec.dtype) for spec in dataset.element_spec)
    blank = EvalBatch(image, tf.fill(label.shape, tf.constant(UNLABELED, label.dtype)), *zeros)
    dataset = dataset.concatenate(tf.data.Dataset.from_tensors(blank).repeat())
    dataset = dataset.batch(batch_size, drop_remainder=True).take(num_batches - first_batch)
    return _one_hot_and_prefetch(
        dataset, batch_spec.evaluation_spec(source, image_size, batch_size)
    )


def _one_hot_and_prefetch(
    dataset: tf.data.Dataset, spec: TrainBatch | EvalBatch
) -> tf.data.Dataset:
    """Makes the labels of batches one-hot, and prefetches.

    The row of an example without a label (-1) is zero.
    """
    num_classes = spec.labels.shape[1]
    dataset = dataset.map(
        lambda batch: batch_spec.with_shapes(
            batch._replace(labels=tf.one_hot(batch.labels, num_classes)), spec
        )
    )
    batch_spec.check(dataset, spec)
    return groups.prefetched(dataset)
