"""Batches for the replicas of a run, made by its settings."""

import secrets

import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.data.augment import host
from tf_simclr.data.pipeline import batches, device_crops, service
from tf_simclr.data.sources.tfds_source import Source
from tf_simclr.devices import strategies, workers


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
    return size <= host.SMALL_SIZE and device_crops.travels_whole(
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
    address, job_name = config.runtime.data_service, ""
    if address:
        # Not from Python's generator, which the run's seed has set: a later start would take up
        # the first one's stream.
        number = workers.from_chief(strategy, secrets.randbits(32))
        job_name = f"tf_simclr_{number}"

    def make(context: tf.distribute.InputContext) -> tf.data.Dataset:
        num_shards, shard_index = context.num_input_pipelines, context.input_pipeline_id
        reader = None
        if address:
            reader = service.Service(address, job_name, shard_index, num_shards)
            num_shards, shard_index = 1, 0  # all share one stream
        batch_size = config.training.train_batch_size
        # Whole steps. Where the batch size has changed, the last may have been a part of one.
        steps_seen = -(-examples_seen // batch_size)
        return batches.train_batches(
            source,
            split=config.data.train_split,
            train_mode=config.training.train_mode,
            image_size=config.data.image_size,
            batch_size=context.get_per_replica_batch_size(batch_size),
            global_batch_size=batch_size,
            color_jitter_strength=config.augment.color_jitter_strength,
            color_jitter_impl=config.augment.color_jitter_impl,
            augment_on_device=augments_on_device(config, source, strategy),
            cache=config.data.cache_dataset,
            strict=config.data.strict_data,
            seed=config.runtime.seed,
            start_example=steps_seen * (batch_size // num_shards),
            num_shards=num_shards,
            shard_index=shard_index,
            service=reader,
        )

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
        num_shards=context.num_input_pipelines,
        shard_index=context.input_pipeline_id,
    ).rebatch(context.get_per_replica_batch_size(batch_size), drop_remainder=True)
