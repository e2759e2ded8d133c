"""The parts of a run, built once and passed to the training and evaluation code."""

import dataclasses
import functools
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tf_simclr import preflight
from tf_simclr.checkpoints import about_file, result_files, teacher
from tf_simclr.checkpoints.examples_seen import ExamplesSeen
from tf_simclr.checkpoints.run_checkpoints import Checkpointer
from tf_simclr.config import Config, saved_settings
from tf_simclr.data.augment.device_views import DeviceViews
from tf_simclr.data.batch import TrainBatch
from tf_simclr.data.sources.protocol import Source
from tf_simclr.devices import same_settings, strategies, workers
from tf_simclr.errors import ConfigError
from tf_simclr.models.from_config import make_model, num_microbatches
from tf_simclr.models.simclr import SimCLR
from tf_simclr.optim import policy
from tf_simclr.optim.loss_scale import LossScale
from tf_simclr.training.metrics_file import Record
from tf_simclr.training.plan import Plan, make_schedule
from tf_simclr.training.tasks import Task, make_task
from tf_simclr.training.train_step import LOSS_SCALE_METRICS, train_step


@dataclasses.dataclass(frozen=True)
class RunState:
    """A model on its devices, with its optimizer, its data and its files.

    Attributes:
      config: the settings, the same on all workers.
      source: the data set; its labels are class indices of the model's head.
      plan: the run's length.
      class_names: names of the head's classes; None if unknown, or without a head.
      strategy: the strategy of the run's devices.
      model: the model to train.
      task: the task that it is trained for.
      learning_rate: function from step to learning rate.
      optimizer: optimizer of the model; its `iterations` is the number of steps taken.
      loss_scale: loss scale for float16, otherwise None.
      examples_seen: counts the training examples that the run has seen.
      checkpointer: saves and restores the checkpoints in model_dir.
      best_checkpointer: saves the best checkpoint, with eval_every_epochs; otherwise None.
      saved_settings: settings saved by the previous start, {name: value}; {} for a new run.
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
        """Returns the directory of the run."""
        return self.checkpointer.directory

    @property
    def step(self) -> int:
        """Returns the number of steps that the optimizer has taken."""
        return self.checkpointer.step

    def record(self, kind: str, step: int, values: Mapping[str, float]) -> Record:
        """Returns a record for metrics.jsonl, with the number of epochs and the present time.

        Args:
          kind: one of the kinds in metrics_file.
          step: number of steps taken.
          values: {tag: value}.
        """
        epoch = self.examples_seen.count_at(step) / self.plan.num_train
        return Record(kind, step, epoch, time.time(), values)

    @property
    def num_classes(self) -> int | None:
        """Returns the number of classes of the supervised head; None for a model without one."""
        return self.model.output_widths().get("logits_sup")

    @property
    def microbatch_size(self) -> int:
        """Returns the number of images in a micro-batch; 0 if a replica needs no micro-batches."""
        is_split = num_microbatches(self.config, self.strategy.num_replicas_in_sync) > 1
        return self.config.training.microbatch_size if is_split else 0

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Returns the names of the metrics that `train_step` returns."""
        return self.task.metric_names + (LOSS_SCALE_METRICS if self.loss_scale else ())

    def train_step(self, batch: TrainBatch) -> dict[str, tf.Tensor]:
        """Takes one training step on one replica, and returns its metrics."""
        return train_step(
            self.task,
            self.optimizer,
            batch,
            microbatch_size=self.microbatch_size,
            loss_scale=self.loss_scale,
        )

    def preview(self, batch: TrainBatch, count: int) -> tf.Tensor:
        """Returns the first views of the first images, float32 (count, s, s, 3)."""
        return self.task.device_views.preview(
            batch,
            step=self.optimizer.iterations,
            count=count,
            microbatch_size=self.microbatch_size,
        )

    @property
    def is_chief(self) -> bool:
        """Returns whether this worker writes checkpoints, summaries, exports and progress."""
        return workers.is_chief(self.strategy)

    def say(self, text: str) -> None:
        """Prints to stderr, once for all workers."""
        if self.is_chief:
            print(text, file=sys.stderr)

    def about(self) -> dict:
        """Returns the content of about.json for this model."""
        names = self.class_names or ()
        return about_file.content(self.config, names if len(names) == self.num_classes else None)


def build(
    config: Config,
    source: Source,
    plan: Plan,
    strategy: tf.distribute.Strategy,
    *,
    class_names: tuple[str, ...] | None = None,
) -> RunState:
    """Builds the parts of a run, and checks that the latest checkpoint in model_dir fits them.

    Args:
      config: checked settings; the seed must be set.
      source: the data set.
      plan: the run's length.
      strategy: the strategy of the run's devices.
      class_names: names of the supervised head's classes (`class_names.match`).

    Raises:
      ConfigError: the settings do not fit the devices; workers have different settings or class
        names; model_dir has a checkpoint of another model; the teacher cannot be loaded, or has
        other classes.
    """
    config = same_settings.use_chief_seed_and_check(config, strategy, class_names)
    preflight.check_devices(config, strategy)
    learning_rate = make_schedule(config, plan)
    model_dir = config.runtime.model_dir
    assert model_dir is not None, "experiment.run requires it"
    saved = saved_settings.read_of_run(model_dir)
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
        make_checkpointer = functools.partial(
            Checkpointer,
            model,
            optimizer,
            strategy=strategy,
            loss_scale=loss_scale,
            examples_seen=examples_seen,
        )
        latest, best = _checkpointers(config, model_dir, make_checkpointer)
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


def _checkpointers(
    config: Config, model_dir: str, make: Callable
) -> tuple[Checkpointer, Checkpointer | None]:
    """Returns the checkpointer of model_dir and, with eval_every_epochs, of the best checkpoint."""
    latest = make(model_dir, max_to_keep=config.training.keep_checkpoint_max)
    if not config.training.eval_every_epochs or config.runtime.mode == "eval":
        return latest, None
    result_files.read_best(model_dir)  # a corrupt file would otherwise end the run much later
    return latest, make(os.path.join(model_dir, result_files.BEST), max_to_keep=1)


def _load_teacher(config: Config, source: Source) -> teacher.Teacher | None:
    distill = config.distill
    if not distill.teacher:
        return None
    loaded = teacher.Teacher(distill.teacher, image_size=config.data.image_size)
    compares = distill.distill_label_weight or config.training.eval_every_epochs
    if compares and loaded.num_classes != source.num_classes:
        raise ConfigError(
            f"teacher {distill.teacher!r} has {loaded.num_classes} classes, dataset "
            f"{source.name} has {source.num_classes}: choose data with the same "
            "classes, or --distill_label_weight=0 --eval_every_epochs=0"
        )
    return loaded
