"""What is trained: from a Config to the loss of one step and its metrics, for each train_mode."""

import dataclasses
import functools
from collections.abc import Callable

import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.data import augment
from tf_simclr.models.simclr import SimCLR
from tf_simclr.optim import policy
from tf_simclr.training import steps
from tf_simclr.training.teacher import Teacher

BLUR_STREAM = 1  # keeps the blur's random numbers apart from any other use of the seed


@dataclasses.dataclass(frozen=True)
class Objective:
    """What one step minimises.

    Attributes:
      metrics: names of what loss returns, total_loss among them.
      loss: (images (n, h, w, 6 or 3), one-hot labels (n, classes)) -> {metric: ()}, on one replica.
    """

    metrics: tuple[str, ...]
    loss: Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]


def make_objective(
    config: Config, model: SimCLR, optimizer, *, teacher: Teacher | None = None
) -> Objective:
    """The objective of config.training.train_mode.

    Args:
      config: its seed must be set.
      model: to be trained.
      optimizer: of the model; its iterations are the step number.
      teacher: for train_mode=distill.
    """
    training = config.training
    decay = dict(
        decayed=policy.loss_decay_variables(model, config.optimizer.optimizer),
        weight_decay=config.optimizer.weight_decay,
    )
    if training.train_mode == "pretrain":
        supervised = steps.SUPERVISED_METRICS if model.supervised_head is not None else ()
        loss = functools.partial(
            steps.pretrain_loss,
            model,
            temperature=config.loss.temperature,
            hidden_norm=config.loss.hidden_norm,
            block_rows=config.loss.loss_block_rows,
            blur=functools.partial(_blur, config, optimizer) if config.augment.use_blur else None,
            **decay,
        )
        return Objective(steps.PRETRAIN_METRICS + supervised, loss)
    if training.train_mode == "finetune":
        return Objective(
            steps.FINETUNE_METRICS, functools.partial(steps.finetune_loss, model, **decay)
        )
    label_weight = config.distill.distill_label_weight
    supervised = steps.SUPERVISED_METRICS if label_weight else ()
    loss = functools.partial(
        steps.distill_loss,
        model,
        teacher,
        temperature=config.distill.distill_temperature,
        label_weight=label_weight,
        **decay,
    )
    return Objective(steps.DISTILL_METRICS + supervised, loss)


def _blur(config: Config, optimizer, view: tf.Tensor, number: int) -> tf.Tensor:
    """Blurs a view (n, h, w, 3); its randomness derives from seed, step, replica and view."""
    context = tf.distribute.get_replica_context()
    seed = tf.constant([config.runtime.seed, BLUR_STREAM], tf.int32)
    for part in (optimizer.iterations, context.replica_id_in_sync_group, number):
        # Philox as in random_blur: the same numbers on every device, with XLA and without.
        seed = tf.random.experimental.stateless_fold_in(
            seed, tf.cast(part, tf.int32), alg="philox"
        )
    return augment.random_blur(view, seed, image_size=config.data.image_size)
