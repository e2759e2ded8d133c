"""Views that the host makes, image by image: all of them, or what the device then distorts."""

import functools
from collections.abc import Callable

import tensorflow as tf

from tf_simclr.data.augment import host
from tf_simclr.data.batch import CropBatch, ViewBatch
from tf_simclr.data.pipeline import seeds, undecodable
from tf_simclr.data.sources.tfds_source import Source


def make_group(
    source: Source,
    streams: seeds.Streams,
    *,
    train_mode: str,
    image_size: int,
    color_jitter_strength: float,
    color_jitter_impl: str,
    augment_on_device: bool,
    name: str,
    strict: bool,
) -> Callable:
    """Makes the map from a group of encoded examples to their views.

    Args:
      streams: whose boxes and distortions these are, drawn for each image by itself.
      name: of the stream, for messages.
      The others: as `pipeline.train_batches` has them.

    Returns:
      A function: (positions (n,), a group of encoded examples) -> (views, labels, skipped), where
      another example stands in for each that cannot be decoded (`undecodable.map_with_stand_ins`).
      Views are float32 (n, views, s, s, 3), or with augment_on_device {"images": such in uint8}.
    """
    view = functools.partial(host.finetuning_view, image_size=image_size)
    if train_mode == "pretrain":
        view = functools.partial(
            host.pretraining_view,
            image_size=image_size,
            strength=color_jitter_strength,
            impl=color_jitter_impl,
        )

    def draw_boxes(box_seeds: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        return tf.stack(
            [host.random_crop_box(seed, height, width) for seed in tf.unstack(box_seeds)]
        )

    def views(box_seeds: tf.Tensor, view_seeds: tf.Tensor, encoded: tf.Tensor) -> list[tf.Tensor]:
        image, boxes = source.decode_boxes(encoded, functools.partial(draw_boxes, box_seeds))
        boxes = tf.unstack(boxes, streams.num_views)
        if augment_on_device:
            return [host.crop_and_resize_uint8(image, box, image_size) for box in boxes]
        return [view(image, *each) for each in zip(boxes, tf.unstack(view_seeds), strict=True)]

    def group(index: tf.Tensor, example: dict[str, tf.Tensor]) -> CropBatch | ViewBatch:
        own_seeds = [
            tf.stack(streams.seeds(use, index), axis=1) for use in (seeds.BOXES, seeds.VIEWS)
        ]
        images, *rest = undecodable.map_with_stand_ins(
            views,
            source,
            index,
            own_seeds,
            example,
            shape=(streams.num_views, image_size, image_size, 3),
            dtype=tf.uint8 if augment_on_device else tf.float32,
            name=name,
            strict=strict,
        )
        return CropBatch(images, *rest) if augment_on_device else ViewBatch(images, *rest)

    return group
