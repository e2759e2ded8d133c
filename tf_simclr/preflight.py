"""Checks of the model's size, of data, files and devices, in the order in which they run.

They run before the model is built and before the run writes to model_dir. config/rules.py has the
rules between settings. Checks of a checkpoint's contents come later (run_state.build,
weights.restore_weights). Each check raises ConfigError: one line that names the flag, its value and
a way out.
"""

import tensorflow as tf

from tf_simclr.checkpoints import teacher, weights
from tf_simclr.config import Config
from tf_simclr.data.pipeline import service
from tf_simclr.data.sources import folder, labels
from tf_simclr.data.sources.protocol import Source
from tf_simclr.devices import strategies
from tf_simclr.errors import ConfigError
from tf_simclr.models import bounds


def check_settings(config: Config) -> None:
    """Raises ConfigError if the model or its input is too large for any device."""
    bounds.check_size(config)


def check_data(config: Config, source: Source) -> None:
    """Raises ConfigError if the settings do not fit the data set."""
    checks = (
        check_class_count,
        check_training_labels,
        check_can_evaluate,
        check_best_metric,
        check_can_probe,
    )
    for check in checks:
        check(config, source)


def check_files(config: Config, source: Source, *, evaluates: bool) -> None:
    """Raises ConfigError if a file, label or service that the run will need is missing.

    Args:
      config: checked settings.
      source: the data set.
      evaluates: whether the run will evaluate on eval_split.
    """
    if evaluates:
        way_out = "evaluate on another split, or train with --mode=train"
        labels.require(source, config.data.eval_split, flag="eval_split", way_out=way_out)
    if config.runtime.data_service:
        service.check(config.runtime.data_service)
    check_pretrained_weights(config)
    if config.distill.teacher:
        teacher.find(config.distill.teacher)


def check_devices(config: Config, strategy: tf.distribute.Strategy) -> None:
    """Raises ConfigError if the settings do not fit the devices."""
    check_divisible("train_batch_size", config.training.train_batch_size, strategy)
    check_divisible("eval_batch_size", config.training.eval_batch_size, strategy)
    check_microbatch_size(config, strategy)
    check_precision(config, strategy)
    check_jit_compile(config, strategy)


# --- The data set.


def has_supervised_head(config: Config) -> bool:
    """Returns whether the model has a supervised head to train."""
    if config.training.train_mode != "pretrain":
        return True
    return config.model.lineareval_while_pretraining and not config.data.unlabelled


def check_class_count(config: Config, source: Source) -> None:
    """Rejects a data set with a single class if labels are used.

    With one class accuracy is always 100%, and there is nothing to learn.
    """
    if source.num_classes != 1:
        return
    training, mode = config.training, config.runtime.mode
    without_labels = "--lineareval_while_pretraining=False"
    if source.name == folder.FOLDER:
        without_labels = f"--unlabelled, or {without_labels}"
    if mode == "probe":
        way_out = "probe with data of two or more classes"
    elif training.train_mode == "finetune":
        way_out = "fine-tuning and its evaluation need images of at least one other class"
    elif training.train_mode == "distill":
        if not config.distill.distill_label_weight:
            return
        way_out = "set --distill_label_weight=0 to distill without labels"
    elif config.model.lineareval_while_pretraining:
        way_out = f"set {without_labels}, to pretrain without labels"
    elif training.probe_summary:
        way_out = "skip the probes with --probe_summary=False"
    else:
        return
    name = f" {source.class_names[0]!r}" if source.class_names else ""
    directory = f" in data_dir {config.data.data_dir!r}" if source.name == folder.FOLDER else ""
    raise ConfigError(
        f"dataset {source.name} has only the class{name}{directory}, and labels need at least two "
        f"classes: {way_out}"
    )


def check_training_labels(config: Config, source: Source) -> None:
    """Rejects data without the labels that training needs."""
    ways_out = {
        "pretrain": "set --lineareval_while_pretraining=False to pretrain without them",
        "finetune": "fine-tuning needs a data set with labels",
        "distill": "set --distill_label_weight=0 to distill without them",
    }
    train_mode = config.training.train_mode
    if not has_supervised_head(config):
        return
    if train_mode == "distill" and not config.distill.distill_label_weight:
        return
    if source.num_classes is None:
        why = f" ({source.label_note})" if source.label_note else ""
        raise ConfigError(f"dataset {source.name} has no class labels{why}: {ways_out[train_mode]}")
    if config.runtime.mode != "eval":
        labels.require(
            source, config.data.train_split, flag="train_split", way_out=ways_out[train_mode]
        )


def check_can_evaluate(config: Config, source: Source) -> None:
    """Rejects evaluations during training if there is nothing to evaluate."""
    has_head = has_supervised_head(config)
    if config.training.eval_every_epochs and not (has_head and source.num_classes):
        flag = config.model.lineareval_while_pretraining
        raise ConfigError(
            "eval_every_epochs must be 0 without labels or without a supervised head (dataset "
            f"{source.name}, lineareval_while_pretraining={flag}), got "
            f"{config.training.eval_every_epochs}: there is nothing to evaluate"
        )


def check_best_metric(config: Config, source: Source) -> None:
    """Rejects a best_metric that cannot be measured on the classes of the data set."""
    metric, num_classes = config.training.best_metric, source.num_classes or 0
    needed = {"monitor/knn_top_1": 2, "eval/label_top_5_accuracy": 5}.get(metric or "", 0)
    if num_classes < needed:
        raise ConfigError(
            f"best_metric must be another metric with dataset {source.name}, got {metric}: it "
            f"needs at least {needed} classes, and the data set has {num_classes or 'none'}; "
            "monitor/rankme needs no labels"
        )


def check_can_probe(config: Config, source: Source) -> None:
    """Rejects probes at the end of a run on data without classes."""
    if config.training.probe_summary and source.num_classes is None:
        raise ConfigError(
            f"probe_summary must be False with dataset {source.name}, which has no class labels to "
            "probe with"
        )


# --- Files.


def check_pretrained_weights(config: Config) -> None:
    """Rejects a --checkpoint that does not exist, and fine-tuning without pretrained weights."""
    training = config.training
    if training.checkpoint:
        weights.find(training.checkpoint)
        return
    if config.runtime.mode == "eval" or training.train_mode != "finetune" or training.from_scratch:
        return
    if not tf.train.latest_checkpoint(config.runtime.model_dir):
        raise ConfigError(
            "checkpoint must be given with train_mode=finetune, got None: give the pretrained run "
            "with --checkpoint=DIR, or train the supervised baseline with --from_scratch"
        )


# --- The devices.


def check_divisible(flag: str, batch_size: int, strategy: tf.distribute.Strategy) -> None:
    """Rejects a batch that cannot be divided equally among the replicas.

    Args:
      flag: name of the setting that holds batch_size.
      batch_size: number of images in a global batch.
      strategy: the strategy of the replicas.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        nearest = max(1, round(batch_size / replicas)) * replicas
        raise ConfigError(
            f"{flag} must be divisible by the {replicas} replicas, got {batch_size}; "
            f"the nearest is {nearest}"
        )


def check_microbatch_size(config: Config, strategy: tf.distribute.Strategy) -> None:
    """Rejects a micro-batch size that does not divide the number of a replica's images."""
    size = config.training.microbatch_size
    images = config.training.train_batch_size // strategy.num_replicas_in_sync
    if size and images % size:
        divisors = [n for n in range(1, images + 1) if images % n == 0]
        nearest = min(divisors, key=lambda n: (abs(n - size), n))
        raise ConfigError(
            f"microbatch_size must divide the {images} images of a replica, got {size}; the "
            f"nearest is {nearest}"
        )


def check_precision(config: Config, strategy: tf.distribute.Strategy) -> None:
    """Rejects a precision in which the devices cannot train."""
    if config.training.precision == "float16" and strategies.is_tpu(strategy):
        raise ConfigError(
            "precision must be bfloat16 or float32 on a TPU, got float16: TPUs have no float16, "
            "and bfloat16 needs no loss scaling"
        )


def check_jit_compile(config: Config, strategy: tf.distribute.Strategy) -> None:
    """Rejects jit_compile if the step communicates between replicas."""
    replicas = strategy.num_replicas_in_sync
    if config.training.jit_compile and replicas > 1 and not strategies.is_tpu(strategy):
        raise ConfigError(
            f"jit_compile must be False on {replicas} replicas, got True: XLA cannot compile the "
            "communication between replicas; TPUs compile the step without this flag"
        )
