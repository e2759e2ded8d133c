"""One training step on one replica, from the batch to the moved weights.

All replicas run it at the same time, inside strategy.run. They meet three times: in the loss of
pretraining, where each gathers the others' projections; in batch normalization with global_bn; and
here, where the gradients are summed.
"""

import keras
import tensorflow as tf

from tf_simclr import compat
from tf_simclr.data.batch import TrainBatch
from tf_simclr.optim.loss_scale import SMALLEST, LossScale
from tf_simclr.training import microbatch
from tf_simclr.training.gradients import gradients
from tf_simclr.training.tasks import Task

SCALED_METRICS = ("loss_scale", "skipped_steps")


def train_step(
    task: Task,
    optimizer: keras.optimizers.Optimizer,
    batch: TrainBatch,
    *,
    microbatch_size: int = 0,
    loss_scale: LossScale | None = None,
) -> dict[str, tf.Tensor]:
    """Takes one step of the optimizer.

    Args:
      task: what is trained (tasks.py).
      optimizer: built for task.trainable; its iterations are the number of the step.
      batch: this replica's images.
      microbatch_size: images that are computed at a time, in less memory; 0 for all of them.
      loss_scale: for float16, whose gradients are scaled and may overflow.

    Returns:
      This replica's metrics (task.metric_names), () each; with a loss_scale also SCALED_METRICS.
    """
    step = optimizer.iterations
    targets = task.targets(batch.labels)

    # 1. This replica's part of the gradient.
    scale = 1.0 if loss_scale is None else loss_scale.read()
    if microbatch_size:
        metrics, replica_gradients = microbatch.gradients(
            task, batch, targets, size=microbatch_size, step=step, scale=scale
        )
    else:
        metrics, replica_gradients = gradients(task, batch, targets, step=step, scale=scale)

    # 2. The sum over the replicas. Variables that the loss does not reach are left alone.
    pairs = zip(replica_gradients, task.trainable, strict=True)
    reached = [(gradient, variable) for gradient, variable in pairs if gradient is not None]
    summed = sum_over_replicas([gradient for gradient, _ in reached])
    variables = [variable for _, variable in reached]

    # 3. The update.
    if loss_scale is None:
        compat.apply_gradients(optimizer, list(zip(summed, variables, strict=True)))
        return metrics
    return metrics | _scaled_update(optimizer, summed, variables, metrics, scale, loss_scale)


def sum_over_replicas(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """Sums each tensor over the replicas; the same on all of them."""
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)


def _scaled_update(
    optimizer, gradients_sum: list, variables: list, metrics: dict, scale, loss_scale: LossScale
) -> dict[str, tf.Tensor]:
    """Applies scaled gradients where all are finite; else the step only counts.

    Returns:
      SCALED_METRICS, and a total_loss that is nan where no scale could help: the gradients are not
      finite at the smallest scale, and will not be.
    """
    finite = loss_scale.apply_if_finite(
        [gradient / scale for gradient in gradients_sum],
        lambda unscaled: compat.apply_gradients(
            optimizer, list(zip(unscaled, variables, strict=True))
        ),
        lambda: optimizer.iterations.assign_add(1),
    )
    hopeless = ~finite & (scale <= SMALLEST)
    return {
        "total_loss": tf.where(hopeless, float("nan"), metrics["total_loss"]),
        "loss_scale": scale,
        "skipped_steps": 1.0 - tf.cast(finite, tf.float32),
    }
