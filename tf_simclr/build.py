"""The parts of a run, each from a Config: devices, model, batches.

What any mode needs is made here and nowhere else; every function stands by itself.
"""

import dataclasses
import secrets

import keras
import tensorflow as tf

from tf_simclr import bounds
from tf_simclr.config import Config, check_data_dir
from tf_simclr.data.pipeline import batches, device_crops, service
from tf_simclr.data.pipeline.settings import Shard, StreamSettings, ViewSettings
from tf_simclr.data.sources import folder, image_range
from tf_simclr.data.sources.protocol import Source
from tf_simclr.data.sources.tfds_source import open_source
from tf_simclr.devices import strategies, workers
from tf_simclr.errors import ConfigError, one_line
from tf_simclr.models.simclr import SimCLR

# Batches of larger views do not fit in the caches of a CPU, which then augments them faster one by
# one (docs/performance.md).
DEVICE_CROPS_ON_CPU_MAX_SIZE = 32


def make_strategy(config: Config) -> tf.distribute.Strategy:
    """The devices (`strategies.make_strategy`).

    Raises:
      ConfigError: they are not there.
    """
    runtime = config.runtime
    return strategies.make_strategy(
        strategy=runtime.strategy,
        use_tpu=runtime.use_tpu,
        tpu_name=runtime.tpu_name,
        tpu_zone=runtime.tpu_zone,
        gcp_project=runtime.gcp_project,
        master=runtime.master,
        cpu_replicas=runtime.cpu_replicas,
    )


def open_data(config: Config, *, quiet: bool = False) -> Source:
    """Opens the data set.

    Says on stderr what a folder holds, and where 16-bit images are nearly black.

    Args:
      config: its section Data says which.
      quiet: say nothing, where another worker does.

    Raises:
      ConfigError: it cannot be, in one line.
    """
    check_data_dir(config)
    data = config.data
    limits = image_range.parse(data.image_range)
    if data.dataset == folder.FOLDER:
        source: Source = folder.open_folder(
            data.data_dir,
            unlabelled=data.unlabelled,
            image_range=limits,
            max_megapixels=data.max_megapixels,
            model_dir=config.runtime.model_dir,
            quiet=quiet,
        )
    else:
        source = open_source(
            data.dataset,
            data.data_dir,
            image_range=limits,
            image_key=data.image_key,
            label_key=data.label_key,
        )
        if config.runtime.data_service and source.reads_in_this_process:
            raise ConfigError(
                f"data_service must be None with dataset={data.dataset}, got "
                f"{config.runtime.data_service!r}: its array_record files are read in the process "
                "that trains; or prepare it as TFRecord files"
            )
    check_class_count(config, source)
    if limits is None and not quiet:
        image_range.warn_if_dark(source.name, source.sample_16_bit())
    return source


def check_class_count(config: Config, source: Source):
    """Raises ConfigError where the data has one class only, and what is asked for needs two.

    A single class is always guessed right, and there is nothing to learn from it.
    """
    if source.num_classes != 1:
        return
    training, mode = config.training, config.runtime.mode
    without_labels = "--lineareval_while_pretraining=False"
    if source.name == folder.FOLDER:
        without_labels = f"--unlabelled, or {without_labels}"
    if mode == "probe":
        way_out = "name data of two or more classes to probe with"
    elif training.train_mode == "finetune":
        way_out = "fine-tuning and its evaluation need pictures of at least one other class"
    elif training.train_mode == "distill":
        if not config.distill.distill_label_weight:
            return
        way_out = "distill without labels by --distill_label_weight=0"
    elif config.model.lineareval_while_pretraining:
        way_out = f"pretrain without labels by {without_labels}"
    elif training.probe_summary:
        way_out = "leave out the probes by --probe_summary=False"
    else:
        return
    name = f" {source.class_names[0]!r}" if source.class_names else ""
    place = f" in data_dir {config.data.data_dir!r}" if source.name == folder.FOLDER else ""
    raise ConfigError(
        f"dataset {source.name} has the class{name} only{place}, and labels need at least two "
        f"classes: {way_out}"
    )


def check_divisible(flag: str, batch_size: int, strategy: tf.distribute.Strategy):
    """Raises ConfigError where the replicas cannot share a batch equally.

    Args:
      flag: name of the setting that holds batch_size.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        nearest = max(1, round(batch_size / replicas)) * replicas
        raise ConfigError(
            f"{flag} must be divisible by the {replicas} replicas, got {batch_size}; "
            f"the nearest is {nearest}"
        )


def check_devices(config: Config, strategy: tf.distribute.Strategy):
    """Raises ConfigError where the settings do not fit the devices."""
    check_divisible("train_batch_size", config.training.train_batch_size, strategy)
    check_divisible("eval_batch_size", config.training.eval_batch_size, strategy)
    check_microbatch(config, strategy)
    check_precision(config, strategy)
    check_compilable(config, strategy)


def check_microbatch(config: Config, strategy: tf.distribute.Strategy):
    """Raises ConfigError where a replica's images are no whole number of micro-batches."""
    size = config.training.microbatch_size
    images = config.training.train_batch_size // strategy.num_replicas_in_sync
    if size and images % size:
        divisors = [n for n in range(1, images + 1) if images % n == 0]
        nearest = min(divisors, key=lambda n: (abs(n - size), n))
        raise ConfigError(
            f"microbatch_size must divide the {images} images of a replica, got {size}; the "
            f"nearest is {nearest}"
        )


def num_microbatches(config: Config, strategy: tf.distribute.Strategy) -> int:
    """Micro-batches that each replica's part of a batch is computed in."""
    images = config.training.train_batch_size // strategy.num_replicas_in_sync
    size = config.training.microbatch_size
    return max(1, images // size) if size else 1


def check_precision(config: Config, strategy: tf.distribute.Strategy):
    """Raises ConfigError where the devices cannot train in this precision."""
    if config.training.precision == "float16" and isinstance(strategy, tf.distribute.TPUStrategy):
        raise ConfigError(
            "precision must be bfloat16 or float32 on a TPU, got float16: it has no "
            "float16, nor does bfloat16 need its loss scaling"
        )


def check_compilable(config: Config, strategy: tf.distribute.Strategy):
    """Raises ConfigError where jit_compile is asked for and replicas would have to meet."""
    replicas = strategy.num_replicas_in_sync
    if (
        config.training.jit_compile
        and replicas > 1
        and not isinstance(strategy, tf.distribute.TPUStrategy)
    ):
        raise ConfigError(
            f"jit_compile must be False on {replicas} replicas, got True: what they exchange "
            "cannot be compiled; a TPU compiles without it"
        )


def make_model(config: Config, num_classes: int | None) -> SimCLR:
    """The model as it is before any training: the same for the same seed.

    Args:
      config: its seed must be set.
      num_classes: of the supervised head; None for a model without one.

    Raises:
      ConfigError: there is no such model, or no device could hold it (`bounds.check_size`).
    """
    bounds.check_size(config)
    # TensorFlow cannot combine a global seed of 0 with one that is a tensor (Dataset.shuffle).
    keras.utils.set_random_seed(config.runtime.seed or 2**31)
    settings, precision = dataclasses.asdict(config.model), config.training.precision
    for name in ("lineareval_while_pretraining", "zero_init_logits_layer"):
        del settings[name]  # settings of the run, not of the network
    # Micro-batches are computed in a loop, in which replicas cannot exchange statistics.
    one_batch = num_microbatches(config, tf.distribute.get_strategy()) == 1
    settings["global_bn"] = config.model.global_bn and one_batch
    try:
        return SimCLR(
            num_classes=num_classes,
            image_size=config.data.image_size,
            stop_supervised_gradient=config.training.train_mode == "pretrain",
            # None: Keras's own type, which is float32 unless it was changed.
            precision=None if precision == "float32" else precision,
            **settings,
        )
    except ValueError as error:  # a width_multiplier so small that a layer has no channel
        raise ConfigError(
            f"width_multiplier {config.model.width_multiplier} and the other model flags make no "
            f"model: {one_line(error)}"
        ) from error


def on_cpu(strategy: tf.distribute.Strategy) -> bool:
    """Whether the replicas are this machine's CPU."""
    return all("CPU" in device.upper() for device in strategy.extended.worker_devices)


def augments_on_device(config: Config, source: Source, strategy: tf.distribute.Strategy) -> bool:
    """What --augment_on says; auto as docs/performance.md measured it.

    A tf.data service is there to take work off the training machine. A CPU is faster on batches
    of small images that travel whole; of larger ones the caches do not hold them.
    """
    where = config.augment.augment_on
    if where != "auto":
        return where == "device"
    if config.runtime.data_service:
        return False
    if not on_cpu(strategy):
        return True
    size = config.data.image_size
    return size <= DEVICE_CROPS_ON_CPU_MAX_SIZE and device_crops.travels_whole(
        source, image_size=size, train_mode=config.training.train_mode
    )


def train_batches(
    config: Config, source: Source, strategy: tf.distribute.Strategy, *, examples_seen: int
) -> tf.distribute.DistributedDataset:
    """Training batches for all replicas (`batches.train_batches`).

    Args:
      examples_seen: by the run so far; the batches go on from there.
    """
    job_name = None
    if config.runtime.data_service:
        # Not from Python's generator, which the run's seed has set: a later start would take up
        # the first one's stream.
        number = workers.from_chief(strategy, secrets.randbits(32))
        job_name = f"tf_simclr_{number}"

    def make(context: tf.distribute.InputContext):
        shard = Shard(context.input_pipeline_id, context.num_input_pipelines)
        reader = None
        if job_name:
            reader = service.Service(
                config.runtime.data_service, job_name, shard.index, shard.count
            )
            shard = Shard()  # all share one stream
        # Whole steps. Where the batch size has changed, the last may have been a part of one.
        steps_seen = -(-examples_seen // config.training.train_batch_size)
        settings = StreamSettings(
            split=config.data.train_split,
            batch_size=context.get_per_replica_batch_size(config.training.train_batch_size),
            global_batch_size=config.training.train_batch_size,
            seed=config.runtime.seed,
            start_example=steps_seen * (config.training.train_batch_size // shard.count),
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
    """Batches of the evaluation view of a split: all of it, or one input pipeline's part.

    That part comes in batches for single replicas, as many for one as for the other.
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
