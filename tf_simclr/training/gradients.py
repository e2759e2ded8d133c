"""Computes the metrics and gradients of one replica's batch, all images at once.

`microbatch` computes the same one micro-batch at a time.
"""

import tensorflow as tf

from tf_simclr import compat
from tf_simclr.data.batch import TrainBatch
from tf_simclr.devices.replicas import num_replicas, replica_id
from tf_simclr.training.loss_terms import Targets
from tf_simclr.training.tasks import Task


def gradients(
    task: Task,
    batch: TrainBatch,
    targets: Targets | None,
    *,
    step: tf.Tensor | int,
    scale: tf.Tensor | float = 1.0,
) -> tuple[dict[str, tf.Tensor], list]:
    """Differentiates a task's loss on this replica.

    Args:
      task: the task that is trained.
      batch: this replica's n images.
      targets: targets of the batch; None if the loss needs none.
      step: number of steps taken so far.
      scale: factor on the loss (`optim.loss_scale`), () or a number.

    Returns:
      The metrics; and, for each variable in task.trainable, the gradient of
      scale * total_loss / num_replicas, or None if the loss does not depend on the variable.
    """
    variables = [compat.tf_variable(variable) for variable in task.trainable]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variables)
        outputs = task.forward(batch, step=step, part=replica_id())
        metrics = task.loss(outputs, targets)
        loss = scale * metrics["total_loss"] / num_replicas()
    return metrics, tape.gradient(loss, variables)
