"""Computes the gradients of a batch that does not fit in memory, one micro-batch at a time.

The gradient of a loss that is a mean over images is the mean of the micro-batches' gradients
(`_accumulate_gradients`). The contrastive loss is not such a mean, because every image of the batch
is a negative of every other image. Its exact gradient takes two rounds (`_two_round_gradients`;
gradient caching, arXiv:2101.06983):

1. Each micro-batch runs forward, and only its outputs are kept: projections and logits. The loss
   of the full batch then gives the gradient with respect to these outputs.
2. Each micro-batch runs forward again, with the same random numbers, and propagates the gradient of
   its outputs back to the weights.

Batch normalization sees one micro-batch at a time. The result equals that of one replica per
micro-batch with global_bn=False: gradients are summed, and moving averages are averaged.
"""

import contextlib
from collections.abc import Callable, Sequence

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
    size: int,
    step: tf.Tensor | int,
    scale: tf.Tensor | float = 1.0,
) -> tuple[dict[str, tf.Tensor], list]:
    """Differentiates a task's loss like `training.gradients.gradients`, in less memory.

    Args:
      task: the task that is trained.
      batch: this replica's n images.
      targets: targets of the batch; None if the loss needs none.
      size: number of images in a micro-batch; it divides n.
      step: number of steps taken so far.
      scale: factor on the loss (`optim.loss_scale`), () or a number.

    Returns:
      The metrics; and, for each variable in task.trainable, the gradient of
      scale * total_loss / num_replicas, or None if the loss does not depend on the variable.
    """
    compute = _two_round_gradients if task.couples_images else _accumulate_gradients
    return compute(task, batch, targets, size=size, step=step, scale=scale)


def _accumulate_gradients(
    task: Task, batch: TrainBatch, targets: Targets | None, *, size: int, step, scale
) -> tuple[dict[str, tf.Tensor], list]:
    """Averages metrics and gradients over the micro-batches."""
    parts, target_parts = _split(batch, size), _split(targets, size)
    count = _num_rows(batch) // size
    trainable = task.trainable
    sums, averages = _GradientSums(trainable), _MovingAverages(task.model.moving_averages())
    names = task.metric_names

    def body(j, metric_sums, gradient_sums, average_sums):
        with _tape(trainable) as tape:
            outputs = task.forward(_part(parts, j), step=step, part=replica_id() * count + j)
            metrics = task.loss(outputs, _part(target_parts, j))
            loss = scale * metrics["total_loss"] / (num_replicas() * count)
        gradient_sums = sums.add(gradient_sums, _gradient(tape, loss, trainable))
        values = [tf.cast(metrics[name], metric_sums.dtype) for name in names]
        metric_sums += tf.stack(values) / count
        return j + 1, metric_sums, gradient_sums, averages.add(average_sums)

    zeros = tf.zeros(len(names), compat.tf_variable(trainable[0]).dtype)
    _, metric_means, gradient_sums, average_sums = _while(
        count, body, zeros, sums.zeros(), averages.zeros()
    )
    averages.assign_mean(average_sums, count)
    metrics = dict(zip(names, tf.unstack(metric_means), strict=True))
    return metrics, sums.with_none_where_unreached(gradient_sums)


def _two_round_gradients(
    task: Task, batch: TrainBatch, targets: Targets | None, *, size: int, step, scale
) -> tuple[dict[str, tf.Tensor], list]:
    """Computes the loss of the full batch between two rounds of micro-batches."""
    parts, count = _split(batch, size), _num_rows(batch) // size
    first_part = replica_id() * count
    trainable = task.trainable
    sums, averages = _GradientSums(trainable), _MovingAverages(task.model.moving_averages())
    widths = task.model.output_widths()
    dtype = compat.tf_variable(trainable[0]).dtype

    def first_round(j, arrays, average_sums):
        outputs = task.forward(_part(parts, j), step=step, part=first_part + j)
        arrays = [array.write(j, outputs[name]) for name, array in zip(widths, arrays, strict=True)]
        return j + 1, arrays, averages.add(average_sums)

    arrays = [
        tf.TensorArray(dtype, count, element_shape=(2 * size, width)) for width in widths.values()
    ]
    _, arrays, average_sums = _while(count, first_round, arrays, averages.zeros())
    outputs = {name: _join_views(array.stack()) for name, array in zip(widths, arrays, strict=True)}

    with _tape(trainable) as tape:
        tape.watch(outputs)
        metrics = task.loss(outputs, targets)
        loss = scale * metrics["total_loss"] / num_replicas()
    # Weight decay depends only on the variables, so its gradient is taken directly.
    output_gradients, direct = tape.gradient(
        loss, (outputs, [compat.tf_variable(variable) for variable in trainable])
    )
    output_gradients = {
        name: _split_views(gradient, size)
        for name, gradient in output_gradients.items()
        if gradient is not None
    }

    def second_round(j, gradient_sums):
        with _tape(trainable) as tape:
            outputs = task.forward(_part(parts, j), step=step, part=first_part + j)
            needed_outputs = [outputs[name] for name in output_gradients]
        upstream = [output_gradients[name][j] for name in output_gradients]
        return j + 1, sums.add(gradient_sums, _gradient(tape, needed_outputs, trainable, upstream))

    _, gradient_sums = _while(count, second_round, sums.zeros())
    averages.assign_mean(average_sums, count)
    pairs = zip(sums.with_none_where_unreached(gradient_sums), direct, strict=True)
    return metrics, [_add(a, b) for a, b in pairs]


def _while(count: int, body: Callable, *initial):
    """Runs body(j, *values) for j = 0 .. count - 1, one after the other."""
    return tf.while_loop(
        lambda j, *_: j < count,
        body,
        (tf.constant(0), *initial),
        parallel_iterations=1,
        maximum_iterations=count,
    )


@contextlib.contextmanager
def _tape(trainable: Sequence):
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([compat.tf_variable(variable) for variable in trainable])
        yield tape


def _gradient(tape, target, trainable: Sequence, output_gradients=None) -> list:
    variables = [compat.tf_variable(variable) for variable in trainable]
    return tape.gradient(target, variables, output_gradients=output_gradients)


def _add(a, b):
    """Adds two gradients. Either may be None."""
    if a is None or b is None:
        return b if a is None else a
    return a + b


def _num_rows(tensors) -> int:
    return tf.nest.flatten(tensors)[0].shape[0]


def _split(tensors, size: int):
    """Reshapes each tensor (n, ...) to (n / size, size, ...). None stays None."""
    if tensors is None:
        return None
    return tf.nest.map_structure(
        lambda tensor: tf.reshape(tensor, (tensor.shape[0] // size, size, *tensor.shape[1:])),
        tensors,
    )


def _part(parts, j):
    """Returns the j-th micro-batch of a batch that `_split` has split."""
    return None if parts is None else tf.nest.map_structure(lambda tensor: tensor[j], parts)


def _join_views(parts: tf.Tensor) -> tf.Tensor:
    """Reorders (count, 2 size, width), both views by micro-batch, to (2n, width), by view."""
    count, rows, width = parts.shape
    by_view = tf.reshape(parts, (count, 2, rows // 2, width))
    return tf.reshape(tf.transpose(by_view, (1, 0, 2, 3)), (-1, width))


def _split_views(joined: tf.Tensor, size: int) -> tf.Tensor:
    """Inverts `_join_views`."""
    by_view = tf.reshape(joined, (2, -1, size, joined.shape[1]))
    return tf.reshape(tf.transpose(by_view, (1, 0, 2, 3)), (-1, 2 * size, joined.shape[1]))


class _GradientSums:
    """Sums gradients in a tf.while_loop, which has no None: a missing gradient becomes zeros."""

    def __init__(self, trainable: Sequence):
        self._variables = [compat.tf_variable(variable) for variable in trainable]
        self._unreached: list[bool] = []

    def zeros(self) -> list:
        return [tf.zeros(variable.shape, variable.dtype) for variable in self._variables]

    def add(self, sums: list, gradients: list) -> list:
        self._unreached = [gradient is None for gradient in gradients]
        return [
            total if gradient is None else total + gradient
            for total, gradient in zip(sums, gradients, strict=True)
        ]

    def with_none_where_unreached(self, sums: list) -> list:
        """Returns the sums, with None for a variable that had no gradient."""
        return [
            None if unreached else total
            for total, unreached in zip(sums, self._unreached, strict=True)
        ]


class _MovingAverages:
    """Averages the micro-batches' updates of moving averages; all start from the same values."""

    def __init__(self, averages: Sequence):
        self._variables = [compat.tf_variable(variable) for variable in averages]
        self._start = [tf.identity(variable) for variable in self._variables]

    def zeros(self) -> list:
        return [tf.zeros_like(value) for value in self._start]

    def add(self, sums: list) -> list:
        """Adds the changes since the start to the sums, and resets the averages to the start."""
        changed_sums = [
            total + (tf.identity(variable) - start)
            for total, variable, start in zip(sums, self._variables, self._start, strict=True)
        ]
        with tf.control_dependencies(changed_sums):
            self._assign(self._start)
        return changed_sums

    def assign_mean(self, sums: list, count: int):
        """Changes the averages by the mean change. Frozen ones stay the same to the bit."""
        pairs = zip(self._start, sums, strict=True)
        self._assign([start + total / count for start, total in pairs])

    def _assign(self, values: list):
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)
