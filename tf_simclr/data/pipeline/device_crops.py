"""The pipeline of whole images that the device crops.

It is for small images of one size. The host decodes them and draws the crop boxes.
"""

from collections.abc import Callable

import tensorflow as tf

from tf_simclr.data.augment import crop
from tf_simclr.data.batch import ImageBatch, num_views
from tf_simclr.data.pipeline import groups, seeds, undecodable
from tf_simclr.data.pipeline.settings import ViewSettings
from tf_simclr.data.pipeline.stream import Stream
from tf_simclr.data.sources.protocol import Source


def crops_on_device(source: Source, *, image_size: int, train_mode: str) -> bool:
    """Returns whether the device crops. It then receives whole images.

    The device crops if all images have one size and are no larger than their views together.

    Args:
      source: the data set.
      image_size: side of a view in pixels.
      train_mode: determines the number of views per image.
    """
    height, width, _ = source.image_shape
    if not height or not width:
        return False
    return height * width <= num_views(train_mode) * image_size**2


def batches(stream: Stream, settings: ViewSettings) -> tf.data.Dataset:
    """Makes the dataset of ImageBatch; labels are class indices, int64 (n,)."""
    spec = tf.TensorSpec(settings.shape, tf.uint8)
    batch_size = stream.settings.batch_size
    # There is little work per image, so large groups are best.
    wanted = max(groups.examples_in_group(spec, batch_size), batch_size)
    group_size = stream.group_size(wanted)
    function = make_group(stream, settings.num_views, group_size=group_size)
    if stream.order.needs_full_history or stream.settings.cache:
        indices = stream.in_groups(stream.order.indices(), group_size)
        dataset, function = groups.from_memory(
            decode(stream.read_once(), stream), stream.order.num_examples, indices, function
        )
    else:
        examples = stream.order.examples(stream.reader(cache=False))
        dataset = stream.in_groups(decode(examples, stream), group_size)
    dataset = groups.parallel_map(dataset, function)
    return stream.in_batches(dataset, group_size)


def decode(examples: tf.data.Dataset, stream: Stream) -> tf.data.Dataset:
    """Decodes examples: {'image': uint8 (h, w, 3), 'label': int64 (), 'is_decodable': bool ()}.

    The image of an example that cannot be decoded is blank, and its 'is_decodable' is False.
    """
    spec = tf.TensorSpec((*_size(stream.source), 3), tf.uint8)

    def group(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        images, is_decodable = undecodable.map_decodable(
            stream.source.decode,
            stream.source,
            example,
            spec=spec,
            name=stream.name,
            strict=stream.settings.strict,
        )
        return {"image": images, "label": example["label"], "is_decodable": is_decodable}

    encoded = examples.batch(groups.examples_in_group(spec))
    return groups.parallel_map(encoded, group).unbatch()


def make_group(stream: Stream, num_views: int, *, group_size: int) -> Callable:
    """Makes the function that maps a group of decoded examples to an ImageBatch.

    The boxes of a group are drawn at once.

    Returns:
      A function (positions (group_size,), a group of examples from `decode`) -> ImageBatch of
      group_size images. It replaces undecodable examples.
    """
    height, width = _size(stream.source)
    streams = seeds.Streams(stream.settings.seed, num_views, stream.settings.shard)

    def group(index: tf.Tensor, example: dict[str, tf.Tensor]) -> ImageBatch:
        images, labels, skipped = undecodable.with_stand_ins(
            example["image"], example["label"], example["is_decodable"], index, name=stream.name
        )
        boxes = [
            crop.random_crop_boxes(group_size, seed, height, width)
            for seed in streams.seeds(seeds.BOXES, index[0])
        ]
        return ImageBatch(images, tf.stack(boxes, axis=1), labels, skipped)

    return group


def _size(source: Source) -> tuple[int, int]:
    """Returns height and width of the images of a source whose images have one size."""
    height, width, _ = source.image_shape
    assert height and width, source.image_shape
    return height, width
