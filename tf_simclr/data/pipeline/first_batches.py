"""Reads the first batch of a training stream, with the images from which its views were made.

A training batch no longer holds the images themselves, so they are read a second time, in the same
order.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from tf_simclr.data.augment import crop
from tf_simclr.data.batch import CropBatch, ImageBatch, TrainBatch, ViewBatch
from tf_simclr.data.pipeline import batches, host_views, seeds
from tf_simclr.data.pipeline.settings import StreamSettings, ViewSettings
from tf_simclr.data.pipeline.stream import Stream
from tf_simclr.data.sources.protocol import UNLABELED, Source


@dataclasses.dataclass(frozen=True)
class FirstBatch:
    """The first training batch of n images, and where its views come from.

    Attributes:
      batch: the batch, as the device receives it.
      images: n images as stored, uint8 (h, w, 3); their sizes may differ. If an example cannot be
        decoded, its stand-in.
      labels: int64 (n,), class indices; UNLABELED if there is none.
      ids: n names by which the source tells its examples apart; the path of an image in a folder.
      boxes: int32 (n, views, 4), the crop of each view in its image: y, x, height, width in pixels.
      seeds: int64 (n, views, 2), the seeds of the host's flips and colors.
    """

    batch: TrainBatch
    images: list[np.ndarray]
    labels: np.ndarray
    ids: list[bytes]
    boxes: np.ndarray
    seeds: np.ndarray


def read(source: Source, settings: StreamSettings, views: ViewSettings) -> FirstBatch:
    """Reads the first batch of a stream twice: as training reads it, and its images.

    Args:
      source: the data set.
      settings: the stream. Choose a small batch, because the shuffle buffer holds many batches.
      views: the views.

    Raises:
      ConfigError: the split does not exist.
      UndecodableError: through `errors.in_one_line`, see `undecodable`.
    """
    batch = next(iter(batches.train_batches(source, settings, views)))
    # With strict, examples have ids.
    stream = Stream.open(source, dataclasses.replace(settings, strict=True), views)
    examples = _first_examples(stream)
    chosen = stand_ins(batch.skipped.numpy() > 0)
    # In a graph, because eagerly a source's Python decoder would not receive bytes.
    decode = tf.function(source.decode, autograph=False)
    images = [decode(examples[i]["image"]).numpy() for i in chosen]
    streams = seeds.Streams(settings.seed, views.num_views, settings.shard)
    positions = tf.range(settings.start_example, settings.start_example + len(images))
    box_seeds, view_seeds = (
        tf.stack(streams.seeds(kind, positions), axis=1) for kind in (seeds.BOXES, seeds.VIEWS)
    )
    if isinstance(batch, ImageBatch):
        boxes = batch.boxes
    else:
        boxes = [
            _draw_boxes(image, of_image) for image, of_image in zip(images, box_seeds, strict=True)
        ]
    return FirstBatch(
        batch=batch,
        images=images,
        labels=np.array([int(examples[i]["label"]) for i in chosen]),
        ids=[examples[i]["id"].numpy() for i in chosen],
        boxes=np.array(boxes),
        seeds=view_seeds.numpy(),
    )


def of_image(image: np.ndarray, views: ViewSettings, *, seed: int) -> FirstBatch:
    """Makes the first batch of a stream that holds one image only.

    The image may have any size, so the host crops it.

    Args:
      image: uint8 (h, w, 3).
      views: the views.
      seed: seed of the run.
    """
    streams = seeds.Streams(seed, views.num_views)
    box_seeds, view_seeds = (
        tf.stack(streams.seeds(kind, tf.constant(0))) for kind in (seeds.BOXES, seeds.VIEWS)
    )
    pixels = tf.stack(
        host_views.views_of_image(
            lambda encoded, draw_boxes: (image, draw_boxes(*image.shape[:2])),
            views,
            box_seeds,
            view_seeds,
            tf.constant(""),
        )
    )
    batch_type = CropBatch if views.augment_on_device else ViewBatch
    return FirstBatch(
        batch=batch_type(pixels[tf.newaxis], tf.zeros((1, 0)), tf.zeros(1)),
        images=[image],
        labels=np.array([UNLABELED]),
        ids=[b""],
        boxes=_draw_boxes(image, box_seeds)[np.newaxis],
        seeds=view_seeds.numpy()[np.newaxis],
    )


def _draw_boxes(image: np.ndarray, box_seeds: tf.Tensor) -> np.ndarray:
    """Draws the crops of an image, uint8 (h, w, 3), from the seeds of its views (views, 2).

    Returns:
      int32 (views, 4): y, x, height, width in pixels.
    """
    height, width, _ = image.shape
    drawn = [crop.random_crop_box(seed, height, width) for seed in tf.unstack(box_seeds)]
    return np.array(drawn)


def stand_ins(skipped: np.ndarray) -> np.ndarray:
    """Returns which example each image of a batch comes from, int (n,): itself, or its stand-in.

    As in `undecodable`, the stand-in is the next example that can be decoded.

    Args:
      skipped: bool (n,), which examples cannot be decoded; not all of them.
    """
    decodable = np.flatnonzero(~skipped)
    following = np.searchsorted(decodable, np.arange(len(skipped)))
    return decodable[following % len(decodable)]


def _first_examples(stream: Stream) -> list[dict[str, tf.Tensor]]:
    """Reads the encoded examples of a stream's first batch, in order."""
    batch_size = stream.settings.batch_size
    if not stream.order.needs_full_history:
        return list(stream.order.examples(stream.reader(cache=False)).take(batch_size))
    # The split is smaller than two batches.
    all_examples = list(stream.read_once())
    return [all_examples[int(i)] for i in stream.order.indices().take(batch_size)]
