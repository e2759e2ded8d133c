"""The tasks: pretraining, fine-tuning and distillation.

A task defines what the model computes (forward) and what is minimized (loss). All tasks share the
rest of a step (train_step.py). How many views a batch has, and whether they get color distortion
and blur, depends on train_mode (data/batch.py, data/augment/device_views.py).

Losses are means over a replica's images. gradients.py and microbatch.py divide the loss by the
number of replicas, so summing the gradients over replicas gives the gradient of the global loss (as
in the official code).
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import ClassVar

import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.data.augment.device_views import DeviceViews
from tf_simclr.data.batch import TrainBatch
from tf_simclr.losses.distillation import distillation
from tf_simclr.losses.nt_xent import nt_xent_stacked
from tf_simclr.models.simclr import SimCLR
from tf_simclr.optim import policy
from tf_simclr.training.loss_terms import Targets, WeightDecay, supervised_loss

OUTPUTS = ("proj_head_output", "logits_sup")
SUPERVISED_METRICS = ("supervised_loss", "supervised_acc")


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """Base class of the tasks.

    Attributes:
      model: the model to train.
      device_views: finishes the views of a batch on the device, as inputs of the model.
      weight_decay: the weight decay term of the loss.
      couples_images: whether the loss of an image depends on the other images of the batch. If so,
        the loss needs the outputs of all micro-batches.
    """

    model: SimCLR
    device_views: DeviceViews
    weight_decay: WeightDecay

    couples_images: ClassVar[bool] = False

    @property
    def trainable(self) -> list:
        """Returns the variables that the optimizer updates."""
        return policy.trainable_variables(self.model)

    @property
    @abc.abstractmethod
    def metric_names(self) -> tuple[str, ...]:
        """Returns the names of the metrics that `loss` returns."""

    @abc.abstractmethod
    def targets(self, labels: tf.Tensor) -> Targets | None:
        """Returns the targets of one-hot labels (n, classes); None if the loss needs none."""

    @abc.abstractmethod
    def forward(
        self, batch: TrainBatch, *, step: tf.Tensor | int, part: tf.Tensor | int
    ) -> dict[str, tf.Tensor]:
        """Computes the model outputs that the loss needs.

        Args:
          batch: n images: all images of a replica, or one micro-batch of them.
          step: number of steps taken so far.
          part: index of this part of the global batch: of the replica or, with micro-batches, of
            the micro-batch over all replicas. Step and part seed the views (`DeviceViews.views`).

        Returns:
          {name: float32 (rows, width)}; rows is n, or 2n for two views of each image.
        """

    @abc.abstractmethod
    def loss(self, outputs: dict[str, tf.Tensor], targets: Targets | None) -> dict[str, tf.Tensor]:
        """Computes the metrics, () each, from the outputs of `forward`; total_loss is minimized."""


@dataclasses.dataclass(frozen=True)
class Pretrain(Task):
    """Contrastive pretraining (SimCLR paper, section 2.1).

    The supervised head, if there is one, is a linear classifier behind a stop-gradient: it does not
    train the backbone.
    """

    temperature: float = 0.1
    hidden_norm: bool = True
    block_rows: int = 0

    couples_images: ClassVar[bool] = True

    @property
    def metric_names(self) -> tuple[str, ...]:
        contrastive = ("contrast_loss", "contrast_acc", "contrast_entropy")
        supervised = SUPERVISED_METRICS if self.model.supervised_head is not None else ()
        return ("weight_decay", "total_loss", *contrastive, *supervised)

    def targets(self, labels: tf.Tensor) -> Targets | None:
        return None if self.model.supervised_head is None else Targets.from_labels(labels)

    def forward(
        self, batch: TrainBatch, *, step: tf.Tensor | int, part: tf.Tensor | int
    ) -> dict[str, tf.Tensor]:
        """Returns proj_head_output (2n, d) and logits_sup (2n, classes), first views first."""
        views = self.device_views.views(batch, step=step, part=part)
        endpoints = self.model(tf.concat(views, axis=0), training=True)  # input: (2n, s, s, 3)
        return {name: endpoints[name] for name in OUTPUTS if name in endpoints}

    def loss(self, outputs: dict[str, tf.Tensor], targets: Targets | None) -> dict[str, tf.Tensor]:
        """Sums NT-Xent, the weight decay and, with a supervised head, the supervised loss."""
        metrics = nt_xent_stacked(
            outputs["proj_head_output"],
            temperature=self.temperature,
            hidden_norm=self.hidden_norm,
            block_rows=self.block_rows,
        )
        metrics["weight_decay"] = self.weight_decay.loss()
        loss = metrics["contrast_loss"] + metrics["weight_decay"]
        if targets is not None:
            metrics |= supervised_loss(outputs["logits_sup"], targets.of_both_views())
            loss += metrics["supervised_loss"]
        return metrics | {"total_loss": loss}


@dataclasses.dataclass(frozen=True)
class Finetune(Task):
    """Supervised training of the head and of the unfrozen layers below it."""

    @property
    def metric_names(self) -> tuple[str, ...]:
        return ("weight_decay", "total_loss", *SUPERVISED_METRICS)

    def targets(self, labels: tf.Tensor) -> Targets:
        return Targets.from_labels(labels)

    def forward(
        self, batch: TrainBatch, *, step: tf.Tensor | int, part: tf.Tensor | int
    ) -> dict[str, tf.Tensor]:
        """Returns logits_sup (n, classes)."""
        (view,) = self.device_views.views(batch, step=step, part=part)
        return {"logits_sup": self.model(view, training=True)["logits_sup"]}

    def loss(self, outputs: dict[str, tf.Tensor], targets: Targets | None) -> dict[str, tf.Tensor]:
        """Sums the supervised loss and the weight decay."""
        assert targets is not None
        metrics = supervised_loss(outputs["logits_sup"], targets)
        metrics["weight_decay"] = self.weight_decay.loss()
        return metrics | {"total_loss": metrics["supervised_loss"] + metrics["weight_decay"]}


@dataclasses.dataclass(frozen=True)
class Distill(Task):
    """Distillation of a teacher (SimCLRv2 paper, equations 2 and 3).

    Attributes:
      teacher: function from images (n, s, s, 3) to logits (n, classes).
      temperature: temperature of the class probabilities of both networks.
      label_weight: weight of the supervised loss (1 - alpha in the paper); the distillation loss
        gets 1 - label_weight. 0 needs no labels.
    """

    teacher: Callable[[tf.Tensor], tf.Tensor]
    temperature: float = 1.0
    label_weight: float = 0.0

    @property
    def metric_names(self) -> tuple[str, ...]:
        supervised = SUPERVISED_METRICS if self.label_weight else ()
        return ("weight_decay", "total_loss", "distill_loss", "teacher_agreement", *supervised)

    def targets(self, labels: tf.Tensor) -> Targets | None:
        return Targets.from_labels(labels) if self.label_weight else None

    def forward(
        self, batch: TrainBatch, *, step: tf.Tensor | int, part: tf.Tensor | int
    ) -> dict[str, tf.Tensor]:
        """Returns logits_sup and teacher_logits, (n, classes) each; both see the same view."""
        (view,) = self.device_views.views(batch, step=step, part=part)
        logits = self.model(view, training=True)["logits_sup"]
        return {"logits_sup": logits, "teacher_logits": self.teacher(view)}

    def loss(self, outputs: dict[str, tf.Tensor], targets: Targets | None) -> dict[str, tf.Tensor]:
        """Sums the weighted distillation and supervised losses, and the weight decay."""
        logits = outputs["logits_sup"]
        metrics = distillation(logits, outputs["teacher_logits"], temperature=self.temperature)
        metrics["weight_decay"] = self.weight_decay.loss()
        loss = (1.0 - self.label_weight) * metrics["distill_loss"] + metrics["weight_decay"]
        if targets is not None:
            metrics |= supervised_loss(logits, targets)
            loss += self.label_weight * metrics["supervised_loss"]
        return metrics | {"total_loss": loss}


def make_task(
    config: Config,
    model: SimCLR,
    device_views: DeviceViews | None = None,
    teacher: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> Task:
    """Makes the task of config.training.train_mode.

    Args:
      config: checked settings; the seed must be set.
      model: the model to train.
      device_views: makes the model's inputs; None for `DeviceViews(config)`.
      teacher: the teacher of train_mode=distill, a function from images to logits.
    """
    device_views = device_views or DeviceViews(config)
    decayed = policy.loss_decay_variables(model, config.optimizer.optimizer)
    weight_decay = WeightDecay(decayed, config.optimizer.weight_decay)
    match config.training.train_mode:
        case "pretrain":
            return Pretrain(
                model,
                device_views,
                weight_decay,
                temperature=config.loss.temperature,
                hidden_norm=config.loss.hidden_norm,
                block_rows=config.loss.loss_block_rows,
            )
        case "finetune":
            return Finetune(model, device_views, weight_decay)
        case "distill" if teacher is not None:
            return Distill(
                model,
                device_views,
                weight_decay,
                teacher,
                temperature=config.distill.distill_temperature,
                label_weight=config.distill.distill_label_weight,
            )
    raise ValueError(f"train_mode {config.training.train_mode!r} with teacher {teacher!r}")
