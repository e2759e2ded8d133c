"""Batches for the replicas of a run, made by its settings."""

import secrets

import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.data.pipeline import batches, device_crops, service
from tf_simclr.data.pipeline.settings import Shard, StreamSettings, ViewSettings
from tf_simclr.data.sources.protocol import Source
from tf_simclr.devices import strategies, workers

# Batches of larger views do not fit in the caches of a CPU, which then augments them faster one by
# one (docs/performance.md).
DEVICE_CROPS_ON_CPU_MAX_SIZE = 32


def augments_on_device(config: Config, source: Source, strategy: tf.distribute.Strategy) -> bool:
    """Returns what --augment_on says; "auto" chooses what docs/performance.md measured as faster.

    A tf.data service is there to take work off the training machine. A CPU is faster on batches of
    small images that travel whole, and slower on larger images, which its caches do not hold.
    """
    where = config.augment.augment_on
    if where != "auto":
        return where == "device"
    if config.runtime.data_service:
        return False
    if not strategies.on_cpu(strategy):
        return True
    size = config.data.image_size
    return size <= DEVICE_CROPS_ON_CPU_MAX_SIZE and device_crops.travels_whole(
        source, image_size=size, train_mode=config.training.train_mode
    )


def train_batches(
    config: Config, source: Source, strategy: tf.distribute.Strategy, *, examples_seen: int
) -> tf.distribute.DistributedDataset:
    """Makes the endless stream of training batches for all replicas.

    Args:
      config: its seed must be set.
      source: the data set.
      strategy: whose replicas share a batch.
      examples_seen: by the run so far; the stream goes on from there.

    Returns:
      Distributed data set of TrainBatch, one part a replica.
    """
    seed, address, job_name = config.runtime.seed, config.runtime.data_service, ""
    assert seed is not None, "experiment.run draws one"
    if address:
        # Not from Python's generator, which the run's seed has set: a later start would take up
        # the first one's stream.
        number = workers.from_chief(strategy, secrets.randbits(32))
        job_name = f"tf_simclr_{number}"

    def make(context: tf.distribute.InputContext) -> tf.data.Dataset:
        shard, reader = Shard(context.input_pipeline_id, context.num_input_pipelines), None
        if address:
            reader = service.Service(address, job_name, shard.index, shard.count)
            shard = Shard()  # all share one stream
        batch_size = config.training.train_batch_size
        # Whole steps. If the batch size has changed, the last step may have been a part of one.
        steps_seen = -(-examples_seen // batch_size)
        settings = StreamSettings(
            split=config.data.train_split,
            batch_size=context.get_per_replica_batch_size(batch_size),
            global_batch_size=batch_size,
            seed=seed,
            start_example=steps_seen * (batch_size // shard.count),
            cache=config.data.cache_dataset,
            strict=config.data.strict_data,
            shard=shard,
            service=reader,
        )
        views = ViewSettings(
            train_mode=config.training.train_mode,
            image_size=config.data.image_size,
            color_jitter_strength=config.augment.color_jitter_strength,
            color_jitter_impl=config.augment.color_jitter_impl,
            augment_on_device=augments_on_device(config, source, strategy),
        )
        return batches.train_batches(source, settings, views)

    return strategy.distribute_datasets_from_function(make)


def eval_batches(
    config: Config,
    source: Source,
    split: str,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Makes the evaluation batches of a split, or of one input pipeline's part of it.

    Returns:
      Dataset of EvalBatch for single replicas; every input pipeline gets the same number of them.
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
    ).rebatch(context.get_per_replica_batch_size(batch_size), drop_remainder=True)
