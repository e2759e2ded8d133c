"""From a Source to batches: order, views, padding.

Order and views are functions of the seed, the position in the stream and the sizes of batch and
shard alone, so that a training stream can be entered anywhere: a resumed run sees what an
uninterrupted one would have seen.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tf_simclr.config.choices import TRAIN_MODES
from tf_simclr.data.augment import host
from tf_simclr.data.batch import EvalBatch, num_views
from tf_simclr.data.pipeline import batch_spec, device_crops, epochs, host_views, seeds, undecodable
from tf_simclr.data.pipeline.seeds import Streams
from tf_simclr.data.pipeline.service import Service
from tf_simclr.data.sources.tfds_source import UNLABELLED, Source
from tf_simclr.errors import ConfigError

# Official code: the shuffle buffer in batches, for small images and for larger ones.
_SHUFFLE_BATCHES_SMALL = 50
_SHUFFLE_BATCHES_LARGE = 10


def train_batches(
    source: Source,
    *,
    split: str,
    train_mode: str,
    image_size: int,
    batch_size: int,
    global_batch_size: int,
    color_jitter_strength: float,
    color_jitter_impl: str,
    augment_on_device: bool = False,
    cache: bool,
    strict: bool,
    seed: int,
    start_example: int = 0,
    num_shards: int = 1,
    shard_index: int = 0,
    service: Service | None = None,
) -> tf.data.Dataset:
    """The endless training stream.

    Each epoch holds each example once, in an order of its own, and no batch holds an example twice
    (`epochs`). Examples stay encoded in the shuffle buffer (40,960 of them for ImageNet at batch
    4096), in the cache, and in memory where an epoch is shorter than two batches.

    A shard reads only its own part of the split, the same in each epoch, where in the official code
    every worker reads all files and drops what is not its turn. The parts do not mix: an example is
    only ever shuffled among those of its part.

    Args:
      source: the data set.
      split: TFDS split.
      train_mode: "pretrain" (two views, with colour distortion), "finetune" or "distill" (one,
        without).
      image_size: side of a view in pixels.
      batch_size: of this shard.
      global_batch_size: of all shards; the shuffle buffer is 50 (image_size <= 32) or 10 of these.
      color_jitter_strength: s of the paper's appendix A.
      color_jitter_impl: "simclrv2" or "simclrv1".
      augment_on_device: leave to the device what can be done on batches (`batch_augment`): flip and
        colour distortion, and of small images of one size (`whole`) crop and resize, too.
      cache: keep the examples in memory after the first epoch, encoded or, where images travel
        whole, decoded.
      strict: an example that cannot be decoded is an error, where else another stands in for it
        (undecodable.py says which).
      seed: of order and views.
      start_example: examples of this shard already consumed, of whole steps. Epochs before it are
        not read; in the epoch that it falls in, the examples before it are read but not decoded.
      num_shards: input pipelines that share the split; each reads an equal part of it.
      shard_index: which of them this is.

    Returns:
      Dataset of ViewBatch; with augment_on_device of CropBatch, or of ImageBatch where images
      travel whole.

    Raises:
      ConfigError: unknown split or train_mode, or fewer examples than shards.
    """
    if train_mode not in TRAIN_MODES:
        raise ConfigError(f"train_mode must be one of {TRAIN_MODES}, got {train_mode!r}")
    split = source.part(split, num_shards, shard_index, flag="train_split")
    num_examples = source.num_examples(split)
    step_size = global_batch_size // num_shards
    batches = _SHUFFLE_BATCHES_SMALL if image_size <= host.SMALL_SIZE else _SHUFFLE_BATCHES_LARGE
    order = epochs.Order(
        num_examples=num_examples,
        step_size=step_size,
        start_example=start_example,
        buffer=min(global_batch_size * batches, num_examples),
        seed=seed,
    )
    travels_whole = (
        augment_on_device
        and not service
        and device_crops.travels_whole(source, image_size=image_size, train_mode=train_mode)
    )
    spec = batch_spec.of_training(
        source,
        train_mode=train_mode,
        image_size=image_size,
        batch_size=batch_size,
        augment_on_device=augment_on_device,
        travels_whole=travels_whole,
    )
    views_per_image = num_views(train_mode)
    dtype = tf.uint8 if augment_on_device else tf.float32
    name = f"dataset {source.name}, split {split}"
    # Little is done to an image that travels whole: the larger the group the better.
    shape = (views_per_image, image_size, image_size, 3)
    wanted = undecodable.examples_in_group(shape, dtype, batch_size)
    wanted = max(wanted, batch_size) if travels_whole else wanted
    group_size = undecodable.group_size(step_size, batch_size, wanted)
    decode = functools.partial(device_crops.decode, source=source, name=name, strict=strict)
    # A short stream needs its examples in memory, which its shuffle buffer would hold anyway.
    in_one_tensor = order.is_short or (travels_whole and cache)
    read = _reader(source, split, cache=cache and not in_one_tensor, with_id=strict, seed=seed)

    streams = Streams(seed, views_per_image, num_shards, shard_index)
    if travels_whole:
        group = device_crops.make_group(source, streams, group_size=group_size, name=name)
    else:
        group = host_views.make_group(
            source,
            streams,
            train_mode=train_mode,
            image_size=image_size,
            color_jitter_strength=color_jitter_strength,
            color_jitter_impl=color_jitter_impl,
            augment_on_device=augment_on_device,
            name=name,
            strict=strict,
        )
    if in_one_tensor:
        dataset = order.indices()
    else:
        dataset = order.examples(read)
        dataset = decode(dataset) if travels_whole else dataset
    dataset = dataset.enumerate(start=start_example)
    if service:
        dataset = service.own_rounds(dataset, batch_size)
    dataset = dataset.batch(group_size, drop_remainder=True)
    if in_one_tensor:
        stored = decode(read(0)) if travels_whole else read(0)
        dataset, group = _rows_of(stored.batch(num_examples), dataset, group)
    # A thread waits while what XLA has compiled runs in another.
    colors_on_host = train_mode == "pretrain" and not augment_on_device
    threads = 2 if colors_on_host and host.is_compiled(image_size) else 1
    dataset = undecodable.parallel_map(dataset, group, threads_per_core=threads)
    dataset = _regroup(dataset, group_size, batch_size)
    # Then TensorFlow does not ask in each step whether there is another batch.
    endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
    dataset = (service.distribute(dataset) if service else dataset).apply(endless)
    return _finish(source, dataset, spec)


def eval_batches(
    source: Source,
    *,
    split: str,
    image_size: int,
    batch_size: int,
    strict: bool,
    num_shards: int = 1,
    shard_index: int = 0,
) -> tf.data.Dataset:
    """One pass over a split in order, every example once.

    Every shard has equally many batches, all full: the end is padded with zeros of weight 0. An
    example that cannot be decoded is blank and has weight 0, too.

    Args:
      source: the data set.
      split: TFDS split.
      image_size: side of a view in pixels.
      batch_size: of this shard.
      strict: an example that cannot be decoded is an error.
      num_shards: input pipelines that share the split; each reads an equal part of it.
      shard_index: which of them this is.

    Returns:
      Dataset of EvalBatch.

    Raises:
      ConfigError: unknown or empty split, or fewer examples than shards.
    """
    part = source.part(split, num_shards, shard_index, flag="eval_split")
    largest_part = -(-source.num_examples(split) // num_shards)
    num_batches = -(-largest_part // batch_size)

    def view(encoded: tf.Tensor) -> tf.Tensor:
        return host.evaluation_view(source.decode(encoded), image_size=image_size)

    shape = (image_size, image_size, 3)

    def group(example: dict[str, tf.Tensor]) -> EvalBatch:
        images, good = undecodable.map_decodable(
            view,
            source,
            example,
            shape=shape,
            name=f"dataset {source.name}, split {part}",
            strict=strict,
        )
        weights = tf.cast(good, tf.float32)
        return EvalBatch(images, example["label"], weights, 1.0 - weights)

    dataset = source.encoded_examples(part, with_id=strict)
    dataset = dataset.batch(undecodable.examples_in_group(shape, tf.float32))
    dataset = undecodable.parallel_map(dataset, group).unbatch()
    image, label, *zeros = (tf.zeros(spec.shape, spec.dtype) for spec in dataset.element_spec)
    blank = EvalBatch(image, tf.fill(label.shape, tf.constant(UNLABELLED, label.dtype)), *zeros)
    dataset = dataset.concatenate(tf.data.Dataset.from_tensors(blank).repeat())
    dataset = dataset.batch(batch_size, drop_remainder=True).take(num_batches)
    spec = batch_spec.of_evaluation(source, image_size=image_size, batch_size=batch_size)
    return _finish(source, dataset, spec)


def _rows_of(
    stored: tf.data.Dataset, numbers: tf.data.Dataset, group: Callable
) -> tuple[tf.data.Dataset, Callable]:
    """Groups of examples that are rows of tensors in memory.

    Args:
      stored: one element, all examples.
      numbers: groups of (positions in the stream, numbers of examples).
      group: of `views` or `whole`, to be mapped over (positions, examples).

    Returns:
      A dataset, and what to map over it instead.
    """

    def of_rows(batch: tuple, examples: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        positions, rows = batch
        return group(positions, {name: tf.gather(t, rows) for name, t in examples.items()})

    return tf.data.Dataset.zip((numbers, stored.cache().repeat())), of_rows


def _regroup(dataset: tf.data.Dataset, group_size: int, batch_size: int) -> tf.data.Dataset:
    """Groups -> batches."""
    if batch_size % group_size:
        return dataset.unbatch().batch(batch_size, drop_remainder=True)
    # Copies the views once where unbatching would copy them twice.
    if batch_size == group_size:
        return dataset  # one copy less
    return dataset.batch(batch_size // group_size, drop_remainder=True).map(
        lambda groups: tf.nest.map_structure(
            lambda part: tf.reshape(part, (-1, *part.shape[2:])), groups
        )
    )


def _reader(
    source: Source, split: str, *, cache: bool, with_id: bool, seed: int
) -> Callable[[tf.Tensor], tf.data.Dataset]:
    """A function from an epoch (int64 scalar) to the split's encoded examples."""

    def read(files_seed: tf.Tensor) -> tf.data.Dataset:
        return source.encoded_examples(split, shuffle_files=True, seed=files_seed, with_id=with_id)

    if not cache:
        return lambda epoch: read(seeds.derive_scalar(seed, seeds.FILES, epoch))
    # One cache, made here and captured by every epoch. It keeps the order of its first pass, which
    # therefore must not depend on the epoch that a resumed run starts in.
    cached = read(seeds.derive_scalar(seed, seeds.FILES, 0)).cache()
    return lambda epoch: cached


def _finish(source: Source, dataset: tf.data.Dataset, spec: NamedTuple) -> tf.data.Dataset:
    """Makes the class numbers of batches one-hot, and prefetches.

    The row of an example without a label (-1) is zero.
    """
    dataset = dataset.map(
        lambda batch: batch_spec.with_shapes(
            batch._replace(labels=tf.one_hot(batch.labels, source.num_classes or 0)), spec
        )
    )
    batch_spec.check(dataset, spec)
    options = tf.data.Options()
    options.deterministic = True
    # Each shard reads its part already; a second, automatic sharding would drop examples.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)
