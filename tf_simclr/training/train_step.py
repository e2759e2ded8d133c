"""One training step on one replica, from the batch to the updated weights.

All replicas run it at the same time, inside strategy.run. They communicate in four places:

- the count of labeled images, if there is a supervised loss (loss_terms.py);
- batch normalization, with global_bn;
- the contrastive loss, which gathers the projections of all replicas (losses/nt_xent.py);
- the sum of the gradients, below. (With float16, optim/loss_scale.py then decides
  once for all replicas whether to apply them.)

device_loop.py averages the metrics afterwards.
"""

import keras
import tensorflow as tf

from tf_simclr import compat
from tf_simclr.data.batch import TrainBatch
from tf_simclr.optim.loss_scale import SMALLEST, LossScale
from tf_simclr.training import microbatch
from tf_simclr.training.gradients import gradients
from tf_simclr.training.tasks import Task

LOSS_SCALE_METRICS = ("loss_scale", "skipped_steps")


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
      task: the task that is trained (tasks.py).
      optimizer: optimizer built for task.trainable; its `iterations` is the number of steps taken.
      batch: this replica's images.
      microbatch_size: number of images to process at a time, to save memory; 0 for all of them.
      loss_scale: loss scale, used with float16 only.

    Returns:
      This replica's metrics (task.metric_names), () each; with a loss_scale also
      LOSS_SCALE_METRICS.
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

    # 2. The sum over the replicas. Variables without a gradient are not updated.
    pairs = zip(replica_gradients, task.trainable, strict=True)
    with_gradient = [(gradient, variable) for gradient, variable in pairs if gradient is not None]
    summed_gradients = sum_over_replicas([gradient for gradient, _ in with_gradient])
    variables = [variable for _, variable in with_gradient]

    # 3. The update.
    if loss_scale is None:
        compat.apply_gradients(optimizer, list(zip(summed_gradients, variables, strict=True)))
        return metrics
    return metrics | _scaled_update(
        optimizer, summed_gradients, variables, metrics, scale, loss_scale
    )


def sum_over_replicas(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """Sums each tensor over the replicas in one collective. All replicas get the sums."""
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)


def _scaled_update(
    optimizer, summed_gradients: list, variables: list, metrics: dict, scale, loss_scale: LossScale
) -> dict[str, tf.Tensor]:
    """Applies scaled gradients if all are finite; otherwise skips the update but counts the step.

    Returns:
      LOSS_SCALE_METRICS, and total_loss. total_loss is NaN if the gradients are not finite even at
      the smallest scale, which ends the run.
    """
    finite = loss_scale.apply_if_finite(
        [gradient / scale for gradient in summed_gradients],
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
