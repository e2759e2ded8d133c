"""Gradients of a batch that does not fit in memory, one micro-batch after the other.

The gradient of a loss that is a mean over images is the mean of the micro-batches' gradients
(`_accumulated`). The contrastive loss is not such a mean, because every image of the batch is a
negative of every other image. Its exact gradient takes two rounds (`_cached`; gradient caching,
arXiv:2101.06983):

1. Each micro-batch runs forward, and only what the loss needs is kept: a few numbers an image. The
   loss of the whole batch then gives the gradient with respect to these numbers.
2. Each micro-batch runs forward again, with the same random numbers, and carries that gradient back
   to the weights.

Batch normalization sees micro-batches. The result is that of as many replicas with global_bn=False
and one micro-batch each: gradients are summed, moving averages averaged.
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
    """Differentiates a task's loss as `training.gradients.gradients` does, in less memory.

    Args:
      task: what is trained.
      batch: this replica's n images.
      targets: of the batch.
      size: images of a micro-batch; it divides n.
      step: number of the step.
      scale: factor on the loss (`optim.loss_scale`).

    Returns:
      The metrics; and for each variable of task.trainable the gradient of
      scale * total_loss / replicas, None where the loss does not reach the variable.
    """
    compute = _cached if task.couples_images else _accumulated
    return compute(task, batch, targets, size=size, step=step, scale=scale)


def _accumulated(
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
    return metrics, sums.reached(gradient_sums)


def _cached(
    task: Task, batch: TrainBatch, targets: Targets | None, *, size: int, step, scale
) -> tuple[dict[str, tf.Tensor], list]:
    """Computes the loss of the whole batch between two rounds of micro-batches."""
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
    # Terms such as weight decay depend on the variables alone, and so have a direct gradient.
    by_output, direct = tape.gradient(
        loss, (outputs, [compat.tf_variable(variable) for variable in trainable])
    )
    by_output = {
        name: _split_views(gradient, size)
        for name, gradient in by_output.items()
        if gradient is not None
    }

    def second_round(j, gradient_sums):
        with _tape(trainable) as tape:
            outputs = task.forward(_part(parts, j), step=step, part=first_part + j)
            reached = [outputs[name] for name in by_output]
        upstream = [by_output[name][j] for name in by_output]
        return j + 1, sums.add(gradient_sums, _gradient(tape, reached, trainable, upstream))

    _, gradient_sums = _while(count, second_round, sums.zeros())
    averages.assign_mean(average_sums, count)
    pairs = zip(sums.reached(gradient_sums), direct, strict=True)
    return metrics, [_add(through_outputs, directly) for through_outputs, directly in pairs]


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


def _add(one, other):
    """Adds two gradients, of which each may be None."""
    if one is None or other is None:
        return other if one is None else one
    return one + other


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
    """Takes the j-th micro-batch out of what `_split` returns."""
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
    """Sums of gradients in a loop, which needs the same tensors in each round."""

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

    def reached(self, sums: list) -> list:
        """Returns the sums, None where there was no gradient."""
        return [
            None if unreached else total
            for total, unreached in zip(sums, self._unreached, strict=True)
        ]


class _MovingAverages:
    """Moving averages of which each micro-batch takes its step from the same start."""

    def __init__(self, averages: Sequence):
        self._variables = [compat.tf_variable(variable) for variable in averages]
        self._start = [tf.identity(variable) for variable in self._variables]

    def zeros(self) -> list:
        return [tf.zeros_like(value) for value in self._start]

    def add(self, sums: list) -> list:
        """Adds the changes since the start, and sets the averages back."""
        changed_sums = [
            total + (tf.identity(variable) - start)
            for total, variable, start in zip(sums, self._variables, self._start, strict=True)
        ]
        with tf.control_dependencies(changed_sums):
            self._assign(self._start)
        return changed_sums

    def assign_mean(self, sums: list, count: int):
        """Moves the averages by the mean change; frozen ones stay the same to the bit."""
        pairs = zip(self._start, sums, strict=True)
        self._assign([start + total / count for start, total in pairs])

    def _assign(self, values: list):
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)
