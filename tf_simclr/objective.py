"""What is trained: from a Config to the loss of one step and its metrics, for each train_mode."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.data import augment
from tf_simclr.losses.nt_xent import replica_id
from tf_simclr.models.simclr import SimCLR
from tf_simclr.optim import policy
from tf_simclr.training import microbatch, steps
from tf_simclr.training.teacher import Teacher

BLUR_STREAM = 1  # keeps the blur's random numbers apart from any other use of the seed


@dataclasses.dataclass(frozen=True)
class Objective:
    """What one step minimises.

    Attributes:
      metrics: names of what differentiate returns, total_loss among them.
      differentiate: (images (n, h, w, 6 or 3), one-hot labels (n, classes), trainable variables) ->
        {metric: ()} and gradients, on one replica, as `steps.gradients` returns them.
    """

    metrics: tuple[str, ...]
    differentiate: Callable[[tf.Tensor, tf.Tensor, Sequence], tuple[dict[str, tf.Tensor], list]]


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
    if config.training.train_mode == "pretrain":
        return _pretraining(config, model, optimizer)
    decay = _decay(config, model)
    if config.training.train_mode == "finetune":
        metrics, loss = steps.FINETUNE_METRICS, functools.partial(steps.finetune_loss, model)
    else:
        label_weight = config.distill.distill_label_weight
        supervised = steps.SUPERVISED_METRICS if label_weight else ()
        metrics = steps.DISTILL_METRICS + supervised
        loss = functools.partial(
            steps.distill_loss,
            model,
            teacher,
            temperature=config.distill.distill_temperature,
            label_weight=label_weight,
        )

    def differentiate(images, labels, trainable):
        if size := _microbatch(config, images):
            return microbatch.accumulated_gradients(
                lambda images, labels, _: loss(images, labels, **decay), images, labels, trainable,
                size=size, metric_names=metrics, averages=model.moving_averages(),
            )  # fmt: skip
        return steps.gradients(functools.partial(loss, images, labels, **decay), trainable)

    return Objective(metrics, differentiate)


def _pretraining(config: Config, model: SimCLR, optimizer) -> Objective:
    loss = functools.partial(
        steps.pretrain_loss,
        temperature=config.loss.temperature,
        hidden_norm=config.loss.hidden_norm,
        block_rows=config.loss.loss_block_rows,
        **_decay(config, model),
    )

    def outputs(images, place):
        blur = functools.partial(_blur, config, optimizer, place)
        return steps.pretrain_outputs(
            model, images, blur=blur if config.augment.use_blur else None
        )

    def differentiate(images, labels, trainable):
        if size := _microbatch(config, images):
            return microbatch.cached_gradients(
                outputs, loss, images, labels, trainable,
                size=size, widths=model.output_widths(), averages=model.moving_averages(),
            )  # fmt: skip
        return steps.gradients(lambda: loss(outputs(images, replica_id()), labels), trainable)

    supervised = steps.SUPERVISED_METRICS if model.supervised_head is not None else ()
    return Objective(steps.PRETRAIN_METRICS + supervised, differentiate)


def _decay(config: Config, model: SimCLR) -> dict:
    return dict(
        decayed=policy.loss_decay_variables(model, config.optimizer.optimizer),
        weight_decay=config.optimizer.weight_decay,
    )


def _microbatch(config: Config, images: tf.Tensor) -> int:
    """Images of a micro-batch; 0 where this replica's images are one."""
    size = config.training.microbatch_size
    return size if size and size < images.shape[0] else 0


def _blur(config: Config, optimizer, place, view: tf.Tensor, number: int) -> tf.Tensor:
    """Blurs a view (n, h, w, 3); its randomness derives from seed, step, place and view.

    place is the replica's number, or that of the micro-batch among those of all replicas.
    """
    seed = tf.constant([config.runtime.seed, BLUR_STREAM], tf.int32)
    for part in (optimizer.iterations, place, number):
        # Philox as in random_blur: the same numbers on every device, with XLA and without.
        seed = tf.random.experimental.stateless_fold_in(
            seed, tf.cast(part, tf.int32), alg="philox"
        )
    return augment.random_blur(view, seed, image_size=config.data.image_size)
