"""Small images of one size, which travel to the device whole, with the boxes to cut out of them."""

from collections.abc import Callable

import tensorflow as tf

from tf_simclr.data.augment import host
from tf_simclr.data.batch import ImageBatch, num_views
from tf_simclr.data.pipeline import seeds, undecodable
from tf_simclr.data.sources.tfds_source import Source


def travels_whole(source: Source, *, image_size: int, train_mode: str) -> bool:
    """Whether a stored image is sent to the device as it is, to be cropped and resized there.

    Images of one size, and not larger than their views together.
    """
    height, width = source.image_shape[:2]
    views = num_views(train_mode)
    return bool(height and width) and height * width <= views * image_size**2


def decode(dataset: tf.data.Dataset, source: Source, *, name: str, strict: bool) -> tf.data.Dataset:
    """Encoded examples -> {'image': uint8 (h, w, 3), 'label': int64 (), 'good': bool ()}.

    Of an example that cannot be decoded the image is blank and 'good' is False.
    """
    shape = source.image_shape[:2] + (3,)

    def group(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        images, good = undecodable.map_decodable(
            source.decode,
            source,
            example,
            shape=shape,
            dtype=tf.uint8,
            name=name,
            strict=strict,
        )
        return {"image": images, "label": example["label"], "good": good}

    dataset = dataset.batch(undecodable.examples_in_group(shape, tf.uint8))
    return undecodable.parallel_map(dataset, group).unbatch()


def make_group(source: Source, streams: seeds.Streams, *, group_size: int, name: str) -> Callable:
    """Makes the map from a group of decoded examples to what the device needs of them.

    Args:
      source: of images of one size.
      streams: whose boxes these are, drawn for a group at a time.
      group_size: examples of a group.
      name: of the stream, for messages.

    Returns:
      A function: (positions (group_size,), a group of examples as `decode` has them) ->
      an ImageBatch of group_size images whose labels are class numbers, where a good example
      stands in for each that is not.
    """
    height, width = source.image_shape[:2]

    def group(index: tf.Tensor, example: dict[str, tf.Tensor]) -> ImageBatch:
        images, *rest = undecodable.with_stand_ins(
            example["image"], example["label"], example["good"], index, name=name
        )
        boxes = [
            host.random_crop_boxes(group_size, seed, height, width)
            for seed in streams.seeds(seeds.BOXES, index[0])
        ]
        return ImageBatch(images, tf.stack(boxes, axis=1), *rest)

    return group
