"""Makes the training and evaluation batches of a run from its settings."""

import secrets
from collections.abc import Iterable

import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.data.batch import TrainBatch
from tf_simclr.data.pipeline import batches, device_crops, first_batches, service
from tf_simclr.data.pipeline.first_batches import FirstBatch
from tf_simclr.data.pipeline.settings import Shard, StreamSettings, ViewSettings
from tf_simclr.data.sources.protocol import Source
from tf_simclr.devices import distributed_data, strategies, workers

# Batches of larger views do not fit in a CPU's caches. Augmenting one view at a time is then faster
# (docs/performance.md).
DEVICE_CROPS_ON_CPU_MAX_SIZE = 32


def augments_on_device(config: Config, source: Source, strategy: tf.distribute.Strategy) -> bool:
    """Returns whether --augment_on means the device.

    "auto" chooses the faster one (docs/performance.md). With a tf.data service, views are made
    there. On a CPU, batched augmentation is faster only for small uncropped images that fit in the
    caches.
    """
    where = _settled(config) or _faster(config, source, strategies.on_cpu(strategy))
    return where == "device"


def augments_on(config: Config, source: Source, *, on_cpu: bool) -> str:
    """Returns what --augment_on means, "device" or "host"; see `augments_on_device`.

    Args:
      config: checked settings.
      source: the data set.
      on_cpu: whether the model computes on a CPU.
    """
    return _settled(config) or _faster(config, source, on_cpu)


def _settled(config: Config) -> str | None:
    """Returns where the settings augment, or None if it depends on the device and the data."""
    if config.augment.augment_on != "auto":
        return config.augment.augment_on
    return "host" if config.runtime.data_service else None


def _faster(config: Config, source: Source, on_cpu: bool) -> str:
    if not on_cpu:
        return "device"
    size, train_mode = config.data.image_size, config.training.train_mode
    fits = size <= DEVICE_CROPS_ON_CPU_MAX_SIZE
    if fits and device_crops.crops_on_device(source, image_size=size, train_mode=train_mode):
        return "device"
    return "host"


def first_batch(config: Config, source: Source, *, count: int, on_device: bool) -> FirstBatch:
    """Reads the first images of the training split, with what their views are drawn from.

    The stream is that of a run with a global batch of `count` images in one input pipeline, so the
    shuffle buffer is small. It is read in this process, also with a tf.data service.

    Args:
      config: checked settings; the seed must be set.
      source: the data set.
      count: number of images to read; a smaller split gives fewer.
      on_device: whether the device flips the views and distorts their colors.

    Raises:
      ConfigError: the split does not exist.
      UndecodableError: through `errors.in_one_line`, if strict_data is set and an image cannot be
        decoded, or if none of the images can be decoded.
    """
    seed, split = config.runtime.seed, config.data.train_split
    assert seed is not None, "experiment.run draws one"
    count = min(count, source.num_examples(split, flag="train_split"))
    settings = StreamSettings(
        split=split,
        batch_size=count,
        global_batch_size=count,
        seed=seed,
        strict=config.data.strict_data,
    )
    return first_batches.read(source, settings, view_settings(config, on_device=on_device))


def view_settings(config: Config, *, on_device: bool) -> ViewSettings:
    """Returns the settings of the views of a training batch.

    Args:
      config: checked settings.
      on_device: whether the device flips the views and distorts their colors.
    """
    return ViewSettings(
        train_mode=config.training.train_mode,
        image_size=config.data.image_size,
        color_jitter_strength=config.augment.color_jitter_strength,
        color_jitter_impl=config.augment.color_jitter_impl,
        augment_on_device=on_device,
    )


def train_batches(
    config: Config, source: Source, strategy: tf.distribute.Strategy, *, examples_seen: int
) -> Iterable[TrainBatch]:
    """Makes the endless stream of training batches for all replicas.

    Args:
      config: checked settings; the seed must be set, and cache_dataset decided
        (`kept_images.settle`): "auto" keeps no images.
      source: the data set.
      strategy: the strategy whose replicas share a batch.
      examples_seen: number of examples that the run has seen; the stream resumes after them.

    Returns:
      Data set of TrainBatch, distributed over the replicas (`distributed_data.distribute`).
    """
    seed, address, job_name = config.runtime.seed, config.runtime.data_service, ""
    assert seed is not None, "experiment.run draws one"
    if address:
        # Not from the `random` module: Keras seeds it with the run's seed (models/from_config.py),
        # so a restart would draw the same name and rejoin the old stream.
        job_id = workers.from_chief(strategy, secrets.randbits(32))
        job_name = f"tf_simclr_{job_id}"

    def make(context: tf.distribute.InputContext) -> tf.data.Dataset:
        shard, reader = Shard(context.input_pipeline_id, context.num_input_pipelines), None
        if address:
            reader = service.Service(address, job_name, shard.index, shard.count)
            shard = Shard()  # all input pipelines share one stream
        batch_size = config.training.train_batch_size
        # Round up to whole steps: if the batch size has changed, the number of examples seen may
        # not be a multiple of the new one.
        steps_seen = -(-examples_seen // batch_size)
        settings = StreamSettings(
            split=config.data.train_split,
            batch_size=context.get_per_replica_batch_size(batch_size),
            global_batch_size=batch_size,
            seed=seed,
            start_example=steps_seen * (batch_size // shard.count),
            cache=config.data.cache_dataset is True,
            strict=config.data.strict_data,
            shard=shard,
            service=reader,
        )
        views = view_settings(config, on_device=augments_on_device(config, source, strategy))
        return batches.train_batches(source, settings, views)

    return distributed_data.distribute(strategy, make)


def eval_batches(
    config: Config,
    source: Source,
    split: str,
    context: tf.distribute.InputContext | None = None,
    *,
    first_batch: int = 0,
) -> tf.data.Dataset:
    """Makes the evaluation batches of a split, or of one input pipeline's part of it.

    Args:
      config: checked settings.
      source: the data set.
      split: name of the split.
      context: says which part this input pipeline reads; None for all of the split.
      first_batch: number of global batches to skip, without decoding their images.

    Returns:
      Dataset of EvalBatch, one element per replica and step. Every input pipeline has the same
      number of elements.
    """
    context = context or tf.distribute.InputContext()
    batch_size = config.training.eval_batch_size
    return batches.eval_batches(
        source,
        split=split,
        image_size=config.data.image_size,
        batch_size=batch_size // context.num_input_pipelines,
        strict=config.data.strict_data,
        shard=Shard(context.input_pipeline_id, context.num_input_pipelines),
        first_batch=first_batch,
    ).rebatch(context.get_per_replica_batch_size(batch_size), drop_remainder=True)
