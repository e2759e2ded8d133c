"""The pipeline of views that the host makes one image at a time.

The host finishes the views except for the blur (ViewBatch). With augment_on_device it only crops
and resizes, and the device flips and distorts the crops (CropBatch).
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from tf_simclr.data.augment import crop, views
from tf_simclr.data.batch import CropBatch, ViewBatch
from tf_simclr.data.pipeline import groups, seeds, undecodable
from tf_simclr.data.pipeline.settings import ViewSettings
from tf_simclr.data.pipeline.stream import Stream


def batches(stream: Stream, settings: ViewSettings) -> tf.data.Dataset:
    """Makes the dataset of ViewBatch, or of CropBatch with augment_on_device.

    Labels are class indices, int64 (n,).
    """
    spec = _spec(settings)
    group_size = stream.group_size(groups.examples_in_group(spec, stream.settings.batch_size))
    function = make_group(stream, settings)
    if stream.order.needs_full_history:
        # Keep all examples in memory; the shuffle buffer would hold them anyway.
        indices = stream.in_groups(stream.order.indices(), group_size)
        dataset, function = groups.from_memory(
            stream.read_once(), stream.order.num_examples, indices, function
        )
    else:
        examples = stream.order.examples(stream.reader(cache=stream.settings.cache))
        dataset = stream.in_groups(examples, group_size)
    # Code compiled by XLA runs in another thread, while the calling thread waits.
    colors_on_host = settings.train_mode == "pretrain" and not settings.augment_on_device
    threads = 2 if colors_on_host and views.is_compiled(settings.image_size) else 1
    dataset = groups.parallel_map(dataset, function, threads_per_core=threads)
    return stream.in_batches(dataset, group_size)


def make_group(stream: Stream, settings: ViewSettings) -> Callable:
    """Makes the function that maps a group of encoded examples to their views.

    Boxes and distortions are drawn separately for each image.

    Returns:
      A function (positions (n,), a group of encoded examples) -> ViewBatch or CropBatch of n
      images. It replaces undecodable examples (`undecodable.map_with_stand_ins`).
    """
    streams = seeds.Streams(stream.settings.seed, settings.num_views, stream.settings.shard)
    batch_type = CropBatch if settings.augment_on_device else ViewBatch

    def group(index: tf.Tensor, example: dict[str, tf.Tensor]) -> CropBatch | ViewBatch:
        per_image = [
            tf.stack(streams.seeds(kind, index), axis=1) for kind in (seeds.BOXES, seeds.VIEWS)
        ]
        return batch_type(
            *undecodable.map_with_stand_ins(
                functools.partial(views_of_image, stream.source.decode_boxes, settings),
                stream.source,
                index,
                per_image,
                example,
                spec=_spec(settings),
                name=stream.name,
                strict=stream.settings.strict,
            )
        )

    return group


def _spec(settings: ViewSettings) -> tf.TensorSpec:
    """Returns shape and dtype of an image's views."""
    return tf.TensorSpec(settings.shape, tf.uint8 if settings.augment_on_device else tf.float32)


def views_of_image(
    decode_boxes: Callable,
    settings: ViewSettings,
    box_seeds: tf.Tensor,
    view_seeds: tf.Tensor,
    encoded: tf.Tensor,
) -> list[tf.Tensor]:
    """Decodes an image and makes its views, or with augment_on_device its crops.

    Args:
      decode_boxes: decodes an image and draws boxes in it (`Source.decode_boxes`).
      settings: the views.
      box_seeds: the seeds of the boxes, int64 (views, 2).
      view_seeds: the seeds of flips and colors, int64 (views, 2).
      encoded: the image, string ().

    Returns:
      For each view, float32 (s, s, 3) in [0, 1]; for each crop, uint8 (s, s, 3).
    """

    def draw_boxes(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        return tf.stack(
            [crop.random_crop_box(seed, height, width) for seed in tf.unstack(box_seeds)]
        )

    size = settings.image_size
    image, boxes = decode_boxes(encoded, draw_boxes)
    boxes = tf.unstack(boxes, settings.num_views)
    if settings.augment_on_device:
        return [crop.crop_and_resize_uint8(image, box, size) for box in boxes]
    boxes_and_seeds = zip(boxes, tf.unstack(view_seeds), strict=True)
    if settings.train_mode != "pretrain":
        return [
            views.finetuning_view(image, box, seed, image_size=size)
            for box, seed in boxes_and_seeds
        ]
    return [
        views.pretraining_view(
            image,
            box,
            seed,
            image_size=size,
            strength=settings.color_jitter_strength,
            impl=settings.color_jitter_impl,
        )
        for box, seed in boxes_and_seeds
    ]
