"""Computes the embeddings of the images that a run monitors."""

import contextlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.data import errors
from tf_simclr.data.augment.device_views import DeviceViews
from tf_simclr.data.batch import EvalBatch, TrainBatch
from tf_simclr.data.pipeline import batches
from tf_simclr.data.pipeline.settings import Shard, StreamSettings
from tf_simclr.data.sources.protocol import UNLABELED, Source
from tf_simclr.data.sources.random_sample import RandomSample
from tf_simclr.devices import distributed_data, replicas, workers
from tf_simclr.models.from_config import num_microbatches
from tf_simclr.models.simclr import SimCLR
from tf_simclr.training import run_input
from tf_simclr.training.tasks import Task

# Images and views do not depend on the run's seed. The views also depend on the size of a batch and
# on the number of replicas.
_SEED = 20
# Images that a replica processes at a time: as many as in training, because code that XLA compiled
# for that number is shared, but not so few that the device idles, and not many more than needed.
_FEWEST_IMAGES, _MOST_IMAGES = 16, 256
_MAX_KEPT_BYTES = 2**26  # of views in memory; starting a pipeline again takes a second


class Embeddings(NamedTuple):
    """The embeddings of the monitored images, in inference mode.

    The rows of z1 and z2 belong to each other, and so do the rows of the other three.

    Attributes:
      z1: float32 (n, d), projections of the first views, as the projection head returns them.
      z2: float32 (n, d), projections of the second views.
      projections: float32 (m, d), of the evaluation views.
      features: float32 (m, features), of the evaluation views.
      labels: int (m,), class indices; -1 for an image without a label.
    """

    z1: np.ndarray
    z2: np.ndarray
    projections: np.ndarray
    features: np.ndarray
    labels: np.ndarray


class Embedder:
    """Embeds the same images and views with the current weights, at each call.

    The data sets are made and the functions traced only once. Weights, moving averages and the
    random numbers of training do not change.
    """

    def __init__(
        self,
        config: Config,
        source: Source,
        strategy: tf.distribute.Strategy,
        task: Task,
        *,
        split: str,
        count: int,
    ):
        """Prepares the data sets; the first call traces.

        Args:
          config: checked settings of a pretraining run.
          source: the data set.
          strategy: the strategy whose replicas share the images.
          task: the task that is trained; its DeviceViews make the views.
          split: the split to draw the images from.
          count: number of images to draw, at most those of the split.
        """
        num_replicas = strategy.num_replicas_in_sync
        num_workers = workers.num_workers(strategy)
        count, self._is_alone = max(count, num_workers), num_workers == 1  # each worker reads some
        self._strategy, self._statistics = strategy, task.model.per_replica_statistics()
        # Images of a replica in a batch.
        size = config.training.train_batch_size // num_replicas
        if num_microbatches(config, num_replicas) > 1:
            size = config.training.microbatch_size
        size = max(size, _FEWEST_IMAGES)
        needs_other_size = size > _MOST_IMAGES or size * num_replicas > 2 * count
        self._num_batches = -(-count // (min(size, _MOST_IMAGES) * num_replicas))
        # Batches of another size are as small as their number allows.
        self._size = -(-count // (self._num_batches * num_replicas)) if needs_other_size else size
        self._sample = RandomSample(source, split=split, count=count, seed=_SEED)
        self._config, self._split = config, split
        self._views = distributed_data.distribute(strategy, self._view_batches)
        self._images = distributed_data.distribute(strategy, self._image_batches)
        num_bytes = 3 * 4 * 3 * config.data.image_size**2 * count // num_workers
        self._keeps_batches = num_bytes <= _MAX_KEPT_BYTES
        self._batches: list[tuple] | None = None

        @tf.function(autograph=False)
        def embed_batch(views, images, index):
            embed = _make_embed(task.model, task.device_views.with_seed(_SEED))
            rows = strategy.run(embed, args=(*views, images, index))
            return tf.nest.map_structure(
                lambda part: strategy.experimental_local_results(part)[0], rows
            )

        self._embed_batch = embed_batch

    def __call__(self) -> Embeddings:
        """Embeds the images; all workers must call it at the same point.

        Images that cannot be decoded are left out.

        Returns:
          The embeddings of the images of all workers, on each of them.

        Raises:
          UndecodableError: many images in a row cannot be decoded, or a file cannot be read. With
            several workers it is an OpError, because the run cannot continue: the other workers
            wait for this one.
        """
        with errors.in_one_line() if self._is_alone else contextlib.nullcontext():
            rows = self._rows()
        view_rows = rows["view_weights"][:, 0] > 0
        image_rows = rows["image_weights"][:, 0] > 0
        return Embeddings(
            z1=rows["z1"][view_rows],
            z2=rows["z2"][view_rows],
            projections=rows["projections"][image_rows],
            features=rows["features"][image_rows],
            labels=np.rint(rows["labels"][image_rows, 0]).astype(int),
        )

    def _rows(self) -> dict[str, np.ndarray]:
        """Embeds all batches; returns {name: (rows, width)}."""
        parts: list[dict[str, np.ndarray]] = []
        with workers.averaged_over_replicas(self._strategy, self._statistics):
            for index, (views, images) in enumerate(self._pairs()):
                rows = self._embed_batch(views, images, tf.constant(index))
                parts.append({name: part.numpy() for name, part in rows.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _pairs(self) -> Iterable[tuple]:
        """Reads the pairs of a training batch with weights and an evaluation batch."""
        if self._batches is not None:
            return self._batches
        pairs = zip(iter(self._views), iter(self._images), strict=True)
        if self._keeps_batches:
            self._batches = list(pairs)
            return self._batches
        return pairs

    def _view_batches(self, context: tf.distribute.InputContext) -> tf.data.Dataset:
        """Makes one pass over the images as training batches, with weights (n,) for each."""
        shard = Shard(context.input_pipeline_id, context.num_input_pipelines)
        settings = StreamSettings(
            split=self._split,
            batch_size=self._size,
            global_batch_size=self._size * self._strategy.num_replicas_in_sync,
            seed=_SEED,
            shard=shard,
        )
        on_device = run_input.augments_on_device(self._config, self._sample, self._strategy)
        views = run_input.view_settings(self._config, on_device=on_device)
        dataset = batches.train_batches(self._sample, settings, views)
        part = self._sample.part_of_split(self._split, shard.count, shard.index)
        count, size = self._sample.num_examples(part), self._size

        def with_weights(index: tf.Tensor, batch: TrainBatch) -> tuple[TrainBatch, tf.Tensor]:
            """Gives weight 0 to stand-ins, and to the images that the stream repeats at its end."""
            positions = index * size + tf.range(size, dtype=tf.int64)
            return batch, tf.cast(positions < count, tf.float32) * (1.0 - batch.skipped)

        num_batches = self._num_batches * self._strategy.num_replicas_in_sync // shard.count
        return dataset.enumerate().map(with_weights).take(num_batches)

    def _image_batches(self, context: tf.distribute.InputContext) -> tf.data.Dataset:
        """Makes one pass over the images as evaluation batches."""
        shard = Shard(context.input_pipeline_id, context.num_input_pipelines)
        global_size = self._size * self._strategy.num_replicas_in_sync
        return batches.eval_batches(
            self._sample,
            split=self._split,
            image_size=self._config.data.image_size,
            batch_size=global_size // shard.count,
            strict=False,
            shard=shard,
        ).rebatch(self._size, drop_remainder=True)


def _make_embed(model: SimCLR, device_views: DeviceViews):
    """Makes the function that replicas run on a batch."""

    def embed(
        batch: TrainBatch, weights: tf.Tensor, images: EvalBatch, index: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Embeds two views and the evaluation view of n images each in one call of the model.

        Returns:
          {name: float32 (n * replicas, width)}, the rows of all replicas.
        """
        # The views depend on the position of a part among all, not on the number of replicas.
        part = index * replicas.num_replicas() + replicas.replica_id()
        views = device_views.views(batch, step=0, part=part)
        outputs = model(tf.concat([*views, images.images], axis=0), training=False)
        z1, z2, projections = tf.split(outputs["proj_head_output"], 3)
        features = outputs["final_avg_pool"][2 * views[0].shape[0] :]
        labels = tf.fill(images.weights.shape, float(UNLABELED))
        if images.labels.shape[1]:
            has_label = tf.reduce_sum(images.labels, axis=1) > 0
            labels = tf.where(
                has_label, tf.cast(tf.argmax(images.labels, axis=1), tf.float32), labels
            )
        columns = {
            "z1": z1,
            "z2": z2,
            "projections": projections,
            "features": features,
            "labels": labels[:, None],
            "view_weights": weights[:, None],
            "image_weights": images.weights[:, None],
        }
        # One collective is faster than many.
        gathered = replicas.gather(tf.concat(list(columns.values()), axis=1))
        widths = [column.shape[1] for column in columns.values()]
        return dict(zip(columns, tf.split(gathered, widths, axis=1), strict=True))

    return embed
