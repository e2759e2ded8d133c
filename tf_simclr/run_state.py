"""The parts of a run, made once and handed from station to station."""

import dataclasses
import os
import sys
import zlib
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tf_simclr import bounds, preflight
from tf_simclr.checkpoints import run_dir, teacher
from tf_simclr.checkpoints.examples_seen import ExamplesSeen
from tf_simclr.checkpoints.run_checkpoints import Checkpointer
from tf_simclr.config import Config, saved_settings, settings
from tf_simclr.data.augment import host
from tf_simclr.data.augment.device_views import DeviceViews
from tf_simclr.data.sources import image_range
from tf_simclr.data.sources.tfds_source import Source
from tf_simclr.devices import strategies, workers
from tf_simclr.errors import ConfigError, one_line
from tf_simclr.models.simclr import SimCLR
from tf_simclr.optim import policy
from tf_simclr.optim.loss_scale import LossScale
from tf_simclr.training.plan import Plan, make_schedule, num_microbatches
from tf_simclr.training.tasks import Task, make_task


@dataclasses.dataclass(frozen=True)
class RunState:
    """A model on its devices, with its optimizer, its data and its files.

    Attributes:
      config: the settings, the same on all workers.
      source: the data set; its class numbers are those of the model's head.
      plan: the run's length.
      class_names: of the head's classes; None where nobody knows them, or without a head.
      strategy: the devices.
      model: what is trained.
      task: what it is trained for.
      learning_rate: step -> learning rate.
      optimizer: its iterations are the step.
      loss_scale: for float16, else None.
      examples_seen: how many training examples the run has used.
      checkpointer: of the checkpoints in model_dir.
      best_checkpointer: of the best checkpoint, where eval_every_epochs keeps one.
      saved_settings: that the run had before this start, by name.
    """

    config: Config
    source: Source
    plan: Plan
    class_names: tuple[str, ...] | None
    strategy: tf.distribute.Strategy
    model: SimCLR
    task: Task
    learning_rate: Callable
    optimizer: Any
    loss_scale: LossScale | None
    examples_seen: ExamplesSeen
    checkpointer: Checkpointer
    best_checkpointer: Checkpointer | None
    saved_settings: dict[str, Any]

    @property
    def model_dir(self) -> str:
        """The directory of the run."""
        return self.checkpointer.directory

    @property
    def step(self) -> int:
        """Steps that the optimizer has taken."""
        return self.checkpointer.step

    @property
    def num_classes(self) -> int | None:
        """Classes of the supervised head; None for a model without one."""
        return self.model.output_widths().get("logits_sup")

    @property
    def microbatch_size(self) -> int:
        """Images of a micro-batch; 0 where a replica computes all of its images at once."""
        several = num_microbatches(self.config, self.strategy.num_replicas_in_sync) > 1
        return self.config.training.microbatch_size if several else 0

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes checkpoints, summaries, exports and progress."""
        return workers.is_chief(self.strategy)

    def say(self, text: str):
        """Prints to stderr, once for all workers."""
        if self.is_chief:
            print(text, file=sys.stderr)

    def about(self) -> dict:
        """Returns what about.json tells of the model (`run_dir.write_about`)."""
        names, data = self.class_names, self.config.data
        names_known = names is not None and len(names) == self.num_classes
        return {
            "image_size": data.image_size,
            "class_names": list(names) if names_known else None,
            "preparation": host.evaluation_preparation(
                data.image_size, image_range.parse(data.image_range)
            ),
        }


def build(
    config: Config,
    source: Source,
    plan: Plan,
    strategy: tf.distribute.Strategy,
    *,
    class_names: tuple[str, ...] | None = None,
) -> RunState:
    """Builds the parts of a run, and compares them with the checkpoints that are there.

    Args:
      config: checked settings, the seed among them.
      source: the data set.
      plan: the run's length.
      strategy: the devices.
      class_names: of the supervised head (`class_names.match`).

    Raises:
      ConfigError: the settings do not fit the devices; the workers' settings or class names
        differ; model_dir holds a checkpoint of another model; the teacher cannot be loaded, or
        knows other classes.
    """
    config = _agree(config, strategy, class_names)
    preflight.check_devices(config, strategy)
    learning_rate = make_schedule(config, plan)
    saved = saved_settings.read_of_run(config.runtime.model_dir)
    with strategy.scope():
        loaded_teacher = _load_teacher(config, source)
        num_classes = source.num_classes if preflight.has_supervised_head(config) else None
        if loaded_teacher:
            num_classes = loaded_teacher.num_classes
        model = make_model(config, num_classes)
        optimizer = policy.make_optimizer(
            model,
            config.optimizer.optimizer,
            learning_rate,
            momentum=config.optimizer.momentum,
            weight_decay=config.optimizer.weight_decay,
        )
        loss_scale = LossScale() if config.training.precision == "float16" else None
        examples_seen = ExamplesSeen(
            config.training.train_batch_size, batch_size_before=saved.get("train_batch_size")
        )

        def checkpointer(directory: str, max_to_keep: int) -> Checkpointer:
            return Checkpointer(
                model,
                optimizer,
                directory,
                max_to_keep=max_to_keep,
                strategy=strategy,
                loss_scale=loss_scale,
                seen=examples_seen,
            )

        model_dir = config.runtime.model_dir
        latest = checkpointer(model_dir, config.training.keep_checkpoint_max)
        best = None
        if config.training.eval_every_epochs and config.runtime.mode != "eval":
            run_dir.read_best(model_dir)  # a spoilt file would otherwise end the run much later
            best = checkpointer(os.path.join(model_dir, run_dir.BEST), 1)
    latest.check_latest()
    device_views = DeviceViews(config, compiled=strategies.on_cpu(strategy))
    return RunState(
        config=config,
        source=source,
        plan=plan,
        class_names=class_names,
        strategy=strategy,
        model=model,
        task=make_task(config, model, device_views, loaded_teacher),
        learning_rate=learning_rate,
        optimizer=optimizer,
        loss_scale=loss_scale,
        examples_seen=examples_seen,
        checkpointer=latest,
        best_checkpointer=best,
        saved_settings=saved,
    )


def _agree(
    config: Config, strategy: tf.distribute.Strategy, class_names: tuple[str, ...] | None
) -> Config:
    """Returns the settings with the chief's seed, which it may have drawn.

    Raises:
      ConfigError: this worker's settings or class names are not the chief's.
    """
    config = config.replace(seed=workers.from_chief(strategy, config.runtime.seed))
    saved = [(name, value) for _, name, value in config.items() if settings()[name].saved]
    if not workers.all_same(strategy, zlib.crc32(repr(saved).encode())):
        raise ConfigError(
            "strategy is multi_worker, and its workers were started with "
            "different settings: give all of them the same"
        )
    if not workers.all_same(strategy, zlib.crc32(repr(class_names).encode())):
        raise ConfigError(
            "strategy is multi_worker, and its workers see different class names: give all of "
            "them the same data_dir, and a model_dir that all of them see"
        )
    return config


def _load_teacher(config: Config, source: Source) -> teacher.Teacher | None:
    distill = config.distill
    if not distill.teacher:
        return None
    loaded = teacher.Teacher(distill.teacher, image_size=config.data.image_size)
    compares = distill.distill_label_weight or config.training.eval_every_epochs
    if compares and loaded.num_classes != source.num_classes:
        raise ConfigError(
            f"teacher {distill.teacher!r} knows {loaded.num_classes} classes, dataset "
            f"{source.name} has {source.num_classes}: choose data of the same "
            "classes, or --distill_label_weight=0 --eval_every_epochs=0"
        )
    return loaded


def make_model(config: Config, num_classes: int | None) -> SimCLR:
    """Makes the model as it is before any training: the same for the same seed.

    Args:
      config: its seed must be set.
      num_classes: of the supervised head; None for a model without one.

    Raises:
      ConfigError: there is no such model, or no device could hold it (`bounds.check_size`).
    """
    bounds.check_size(config)
    # TensorFlow cannot combine a global seed of 0 with one that is a tensor (Dataset.shuffle).
    keras.utils.set_random_seed(config.runtime.seed or 2**31)
    network, precision = dataclasses.asdict(config.model), config.training.precision
    for name in ("lineareval_while_pretraining", "zero_init_logits_layer"):
        del network[name]  # settings of the run, not of the network
    # Micro-batches are computed in a loop, in which replicas cannot exchange statistics.
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    network["global_bn"] = config.model.global_bn and num_microbatches(config, replicas) == 1
    try:
        return SimCLR(
            num_classes=num_classes,
            image_size=config.data.image_size,
            stop_supervised_gradient=config.training.train_mode == "pretrain",
            # None: Keras's own type, which is float32 unless it was changed.
            precision=None if precision == "float32" else precision,
            **network,
        )
    except ValueError as error:  # a width_multiplier so small that a layer has no channel
        raise ConfigError(
            f"width_multiplier {config.model.width_multiplier} and the other model flags make no "
            f"model: {one_line(error)}"
        ) from error
