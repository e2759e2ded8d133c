"""One training or evaluation step, on one replica: plain functions that return their metrics.

They are called inside strategy.run. Losses are per-replica means divided by the number of replicas,
so that summing gradients over the replicas gives the gradient of the global loss (official code).
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from tf_simclr import compat
from tf_simclr.devices.replicas import batch_size, num_replicas, total
from tf_simclr.losses.distillation import distillation
from tf_simclr.losses.nt_xent import nt_xent_stacked
from tf_simclr.optim.loss_scale import SMALLEST, LossScale
from tf_simclr.precision import at_least_float32
from tf_simclr.ranks import rank

PRETRAIN_METRICS = (
    "weight_decay",
    "total_loss",
    "contrast_loss",
    "contrast_acc",
    "contrast_entropy",
)
PRETRAIN_OUTPUTS = ("proj_head_output", "logits_sup")
SUPERVISED_METRICS = ("supervised_loss", "supervised_acc")
FINETUNE_METRICS = ("weight_decay", "total_loss", *SUPERVISED_METRICS)
SCALED_METRICS = ("loss_scale", "skipped_steps")
DISTILL_METRICS = ("weight_decay", "total_loss", "distill_loss", "teacher_agreement")


def weight_decay_loss(variables: Sequence, weight_decay: float) -> tf.Tensor:
    """weight_decay times the sum of half squared norms; 0 for no variables."""
    if not variables or not weight_decay:
        return tf.zeros((), keras.backend.floatx())
    return weight_decay * tf.add_n([tf.nn.l2_loss(at_least_float32(v)) for v in variables])


class Targets(NamedTuple):
    """The labels of a replica's images, and how much each image counts.

    Attributes:
      one_hot: (n, classes), zero rows for images without a label.
      weights: (n,), 0 for images without a label. The others weigh the same, and the mean over the
        images of all replicas is 1, so that a mean of weighted losses is that over the labelled
        images, whichever parts it is taken in.
    """

    one_hot: tf.Tensor
    weights: tf.Tensor

    @classmethod
    def of(cls, one_hot) -> "Targets":
        """The targets of one-hot labels (n, classes). All replicas must call it, each with n."""
        one_hot = tf.convert_to_tensor(one_hot)
        labelled = tf.reduce_sum(one_hot, axis=1)
        images = tf.cast(batch_size(one_hot) * num_replicas(), labelled.dtype)
        return cls(one_hot, labelled * images / tf.maximum(total(tf.reduce_sum(labelled)), 1))

    def twice(self) -> "Targets":
        """The targets of both views of the images, first those of the first views."""
        return Targets(*(tf.concat([part, part], axis=0) for part in self))


def supervised_loss(logits, targets: Targets) -> dict[str, tf.Tensor]:
    """Mean softmax cross-entropy and top-1 accuracy of logits (n, c) over the labelled images."""
    logits = at_least_float32(logits)
    loss = tf.nn.softmax_cross_entropy_with_logits(targets.one_hot, logits)
    hit = tf.equal(rank(logits, tf.argmax(targets.one_hot, axis=1)), 0)
    weights = tf.cast(targets.weights, logits.dtype)
    return {
        "supervised_loss": tf.reduce_mean(weights * loss),
        "supervised_acc": tf.reduce_mean(weights * tf.cast(hit, weights.dtype)),
    }


def pretrain_outputs(model, views: Sequence) -> dict[str, tf.Tensor]:
    """What the losses of pretraining need of the images.

    Args:
      model: SimCLR.
      views: both views of the images, float32 (n, h, w, 3) in [0, 1] each.

    Returns:
      proj_head_output (2n, d), and logits_sup (2n, classes) where there is a supervised head: first
      the rows of the first views.
    """
    endpoints = model(tf.concat(views, axis=0), training=True)
    return {name: endpoints[name] for name in PRETRAIN_OUTPUTS if name in endpoints}


def pretrain_loss(
    outputs, targets, *, temperature, hidden_norm, decayed, weight_decay, block_rows=0
) -> dict[str, tf.Tensor]:
    """NT-Xent, the watching supervised head's loss, and the weight decay.

    Args:
      outputs: of `pretrain_outputs`.
      targets: `Targets` of the images; unused without a supervised head.
      temperature: of NT-Xent.
      hidden_norm: of NT-Xent.
      decayed: variables of `optim.policy.loss_decay_variables`.
      weight_decay: their coefficient.
      block_rows: of NT-Xent.

    Returns:
      PRETRAIN_METRICS, and SUPERVISED_METRICS where there is a supervised head; total_loss is the
      one to differentiate.
    """
    metrics = nt_xent_stacked(
        outputs["proj_head_output"],
        temperature=temperature,
        hidden_norm=hidden_norm,
        block_rows=block_rows,
    )
    metrics["weight_decay"] = weight_decay_loss(decayed, weight_decay)
    loss = metrics["contrast_loss"] + metrics["weight_decay"]
    if "logits_sup" in outputs:
        metrics |= supervised_loss(outputs["logits_sup"], targets.twice())
        loss += metrics["supervised_loss"]
    return metrics | {"total_loss": loss}


def finetune_loss(model, images, targets, *, decayed, weight_decay) -> dict[str, tf.Tensor]:
    """Supervised loss of images (n, h, w, 3) and their `Targets`: FINETUNE_METRICS."""
    endpoints = model(images, training=True)
    metrics = supervised_loss(endpoints["logits_sup"], targets)
    metrics["weight_decay"] = weight_decay_loss(decayed, weight_decay)
    return metrics | {"total_loss": metrics["supervised_loss"] + metrics["weight_decay"]}


def distill_loss(
    model, teacher, images, targets, *, temperature, label_weight, decayed, weight_decay
) -> dict[str, tf.Tensor]:
    """The loss against a teacher, mixed with that against the labels (SimCLRv2, equations 2, 3).

    Args:
      model: the student, a SimCLR with a supervised head.
      teacher: function from images to logits (n, classes).
      images: (n, h, w, 3), seen by both.
      targets: `Targets` of the images; unused with label_weight 0.
      temperature: of both's probabilities.
      label_weight: weight of the labels' loss, the paper's 1 - alpha; the teacher's has the rest.
      decayed: variables of `optim.policy.loss_decay_variables`.
      weight_decay: their coefficient.

    Returns:
      DISTILL_METRICS, and with a label_weight SUPERVISED_METRICS.
    """
    logits = model(images, training=True)["logits_sup"]
    metrics = distillation(logits, teacher(images), temperature=temperature)
    metrics["weight_decay"] = weight_decay_loss(decayed, weight_decay)
    loss = (1.0 - label_weight) * metrics["distill_loss"] + metrics["weight_decay"]
    if label_weight:
        metrics |= supervised_loss(logits, targets)
        loss += label_weight * metrics["supervised_loss"]
    return metrics | {"total_loss": loss}


def gradients(
    loss_fn: Callable[[], dict[str, tf.Tensor]], trainable: Sequence, *, scale=1.0
) -> tuple[dict[str, tf.Tensor], list]:
    """Differentiates loss_fn()'s total_loss on this replica.

    Args:
      loss_fn: `pretrain_loss`, `finetune_loss` or `distill_loss` with its arguments bound.
      trainable: variables.
      scale: of `LossScale`.

    Returns:
      The metrics, and for each variable the gradient of scale * total_loss / replicas, None where
      the loss does not reach it.
    """
    variables = [compat.tf_variable(v) for v in trainable]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variables)
        metrics = loss_fn()
        loss = scale * metrics["total_loss"] / num_replicas()
    return metrics, tape.gradient(loss, variables)


def summed_gradients(
    differentiate: Callable[[Sequence], tuple[dict[str, tf.Tensor], list]], trainable: Sequence
) -> tuple[dict[str, tf.Tensor], list[tuple]]:
    """Sums gradients over the replicas.

    Args:
      differentiate: what `gradients` is with its loss bound: trainable -> metrics, gradients.
      trainable: variables.

    Returns:
      This replica's metrics, and (gradient, variable) of the variables that the loss reaches; the
      gradients are the same on every replica.
    """
    metrics, own = differentiate(trainable)
    reached = [(g, v) for g, v in zip(own, trainable, strict=True) if g is not None]
    context = tf.distribute.get_replica_context()
    summed = context.all_reduce(tf.distribute.ReduceOp.SUM, [g for g, _ in reached])
    return metrics, list(zip(summed, [v for _, v in reached], strict=True))


def train_step(
    differentiate: Callable[[Sequence], tuple[dict[str, tf.Tensor], list]],
    optimizer,
    trainable: Sequence,
    loss_scale: LossScale | None = None,
) -> dict[str, tf.Tensor]:
    """Takes one step of the optimizer.

    Args:
      differentiate: as for `summed_gradients`; with a loss_scale it also takes a `scale`.
      optimizer: built for `trainable`.
      trainable: variables; those that the loss does not reach are left alone.
      loss_scale: for float16; a step whose gradients are not finite then only counts.

    Returns:
      This replica's metrics; with a loss_scale, SCALED_METRICS too. The loss is nan where no scale
      could help: its gradients are not finite, and will not be.
    """
    if loss_scale is None:
        metrics, summed = summed_gradients(differentiate, trainable)
        compat.apply_gradients(optimizer, summed)
        return metrics
    scale = loss_scale.read()
    metrics, summed = summed_gradients(functools.partial(differentiate, scale=scale), trainable)
    gradients_there, variables = zip(*summed, strict=True)
    finite = loss_scale.apply_if_finite(
        [gradient / scale for gradient in gradients_there],
        lambda own: compat.apply_gradients(optimizer, list(zip(own, variables, strict=True))),
        lambda: optimizer.iterations.assign_add(1),
    )
    hopeless = ~finite & (scale <= SMALLEST)
    total_loss = tf.where(hopeless, float("nan"), metrics["total_loss"])
    skipped = 1.0 - tf.cast(finite, tf.float32)
    return metrics | {"total_loss": total_loss, "loss_scale": scale, "skipped_steps": skipped}


def evaluation_step(model, images, labels, weights) -> dict[str, tf.Tensor]:
    """Counts hits among the labelled images (n, h, w, 3), in inference mode.

    Args:
      labels: (n, classes) one-hot, zero rows for images without a label.
      weights: (n,) 1 for an example, 0 for padding.

    Returns:
      top_1, top_5, examples (with a label) and unlabelled: sums over the batch, each (). No top_5
      of fewer than five classes, where it would be 1 whatever the model says.
    """
    logits = tf.cast(model(images, training=False)["logits_sup"], tf.float32)
    ranks = rank(logits, tf.argmax(labels, axis=1))
    labelled = weights * tf.reduce_sum(labels, axis=1)
    sums = {
        f"top_{k}": tf.reduce_sum(labelled * tf.cast(ranks < k, tf.float32))
        for k in (1, 5)
        if logits.shape[-1] is None or k <= logits.shape[-1]
    }
    examples = tf.reduce_sum(labelled)
    return sums | {"examples": examples, "unlabelled": tf.reduce_sum(weights) - examples}
