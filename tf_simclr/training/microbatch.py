"""Gradients of a batch that does not fit in memory, micro-batch by micro-batch.

A loss that is a mean over images is accumulated. The contrastive loss is not: every image of the
batch is a negative of every other. Its exact gradient takes two rounds (gradient caching,
arXiv:2101.06983): the first keeps of each micro-batch what the loss needs, a few numbers an image;
the loss then says how it changes with these, and the second round computes each micro-batch again,
with the same random numbers, and carries that back to the weights.

Batch normalisation sees micro-batches. The result is that of as many replicas with global_bn=False,
one micro-batch each: their gradients summed, their moving averages averaged.
"""

import contextlib
from collections.abc import Callable, Sequence

import tensorflow as tf

from tf_simclr import compat
from tf_simclr.devices.replicas import num_replicas, replica_id


def accumulated_gradients(
    loss_fn: Callable,
    images: tf.Tensor,
    labels: tf.Tensor,
    trainable: Sequence,
    *,
    size: int,
    metric_names: Sequence[str],
    averages: Sequence,
    scale=1.0,
) -> tuple[dict[str, tf.Tensor], list]:
    """Of a loss that is a mean over images, one micro-batch after the other.

    Args:
      loss_fn: (images (size, ...), labels (size, ...), place ()) -> metrics, total_loss among
        them; place numbers the micro-batches of all replicas.
      images: (n, ...) of this replica, or several tensors of n rows; size divides n.
      labels: (n, ...), or several tensors of n rows.
      trainable: variables.
      size: images of a micro-batch.
      metric_names: of what loss_fn returns.
      averages: moving averages that a call of loss_fn changes.
      scale: of `LossScale`.

    Returns:
      The metrics' means, and for each variable the gradient of scale * total_loss / replicas, None
      where the loss does not reach it.
    """
    parts, label_parts = _split(images, size), _split(labels, size)
    count = _num_rows(images) // size
    gradients, moving = _Sums(trainable), _Moving(averages)

    def body(j, metrics, gradient_sums, moving_sums):
        with _tape(trainable) as tape:
            found = loss_fn(_part(parts, j), _part(label_parts, j), replica_id() * count + j)
            loss = scale * found["total_loss"] / (num_replicas() * count)
        gradient_sums = gradients.add(gradient_sums, _gradient(tape, loss, trainable))
        metrics += tf.stack([tf.cast(found[name], metrics.dtype) for name in metric_names]) / count
        return j + 1, metrics, gradient_sums, moving.add(moving_sums)

    zeros = tf.zeros(len(metric_names), compat.tf_variable(trainable[0]).dtype)
    _, metrics, gradient_sums, moving_sums = _while(
        count, body, zeros, gradients.zeros(), moving.zeros()
    )
    moving.assign_mean(moving_sums, count)
    return dict(zip(metric_names, tf.unstack(metrics), strict=True)), gradients.reached(
        gradient_sums
    )


def cached_gradients(
    outputs_fn: Callable,
    loss_fn: Callable,
    images: tf.Tensor,
    labels: tf.Tensor,
    trainable: Sequence,
    *,
    size: int,
    widths: dict[str, int],
    averages: Sequence,
    scale=1.0,
) -> tuple[dict[str, tf.Tensor], list]:
    """Of a loss of the whole batch.

    Args:
      outputs_fn: (images (size, ...), place ()) -> what the loss needs of them, {name: float32
        (2 size, width)}, both views one after the other; place numbers the micro-batches of all
        replicas. Twice the same for the same arguments.
      loss_fn: ({name: (2n, width)}, labels) -> metrics, total_loss among them; may have terms that
        depend on the variables alone.
      images: (n, ...) of this replica, or several tensors of n rows; size divides n.
      labels: (n, ...), or several tensors of n rows.
      trainable: variables.
      size: images of a micro-batch.
      widths: {name: width} of all outputs.
      averages: moving averages that a call of outputs_fn changes.
      scale: of `LossScale`.

    Returns:
      The metrics, and for each variable the gradient of scale * total_loss / replicas, None where
      the loss does not reach it.
    """
    parts = _split(images, size)
    count = _num_rows(images) // size
    place = replica_id() * count
    gradients, moving = _Sums(trainable), _Moving(averages)
    dtype = compat.tf_variable(trainable[0]).dtype

    def forward(j, arrays, moving_sums):
        outputs = outputs_fn(_part(parts, j), place + j)
        arrays = [array.write(j, outputs[name]) for name, array in zip(widths, arrays, strict=True)]
        return j + 1, arrays, moving.add(moving_sums)

    arrays = [
        tf.TensorArray(dtype, count, element_shape=(2 * size, width)) for width in widths.values()
    ]
    _, arrays, moving_sums = _while(count, forward, arrays, moving.zeros())
    outputs = {name: _join_views(array.stack()) for name, array in zip(widths, arrays, strict=True)}
    with _tape(trainable) as tape:
        tape.watch(outputs)
        metrics = loss_fn(outputs, labels)
        loss = scale * metrics["total_loss"] / num_replicas()
    of_outputs, of_variables = tape.gradient(
        loss, (outputs, [compat.tf_variable(v) for v in trainable])
    )
    upstream = {name: _split_views(g, size) for name, g in of_outputs.items() if g is not None}

    def backward(j, sums):
        with _tape(trainable) as tape:
            outputs = outputs_fn(_part(parts, j), place + j)
            targets = [outputs[name] for name in upstream]
        found = _gradient(tape, targets, trainable, [upstream[name][j] for name in upstream])
        return j + 1, gradients.add(sums, found)

    _, sums = _while(count, backward, gradients.zeros())
    moving.assign_mean(moving_sums, count)
    direct = zip(gradients.reached(sums), of_variables, strict=True)
    return metrics, [_add(one, other) for one, other in direct]


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
        tape.watch([compat.tf_variable(v) for v in trainable])
        yield tape


def _gradient(tape, target, trainable: Sequence, output_gradients=None) -> list:
    return tape.gradient(
        target, [compat.tf_variable(v) for v in trainable], output_gradients=output_gradients
    )


def _add(one, other):
    """Their sum, where None is nothing."""
    if one is None or other is None:
        return other if one is None else one
    return one + other


def _num_rows(tensors) -> int:
    return tf.nest.flatten(tensors)[0].shape[0]


def _split(tensors, size: int):
    """(n, ...) -> (n / size, size, ...) of each tensor."""
    return tf.nest.map_structure(
        lambda t: tf.reshape(t, (t.shape[0] // size, size, *t.shape[1:])), tensors
    )


def _part(parts, j):
    return tf.nest.map_structure(lambda t: t[j], parts)


def _join_views(parts) -> tf.Tensor:
    """(count, 2 size, width), the views of each micro-batch -> (2n, width), those of the batch."""
    count, rows, width = parts.shape
    apart = tf.reshape(parts, (count, 2, rows // 2, width))
    return tf.reshape(tf.transpose(apart, (1, 0, 2, 3)), (-1, width))


def _split_views(whole, size: int) -> tf.Tensor:
    """The inverse of _join_views."""
    apart = tf.reshape(whole, (2, -1, size, whole.shape[1]))
    return tf.reshape(tf.transpose(apart, (1, 0, 2, 3)), (-1, 2 * size, whole.shape[1]))


class _Sums:
    """Sums of gradients in a loop, which needs the same tensors in each round."""

    def __init__(self, trainable: Sequence):
        self._variables = [compat.tf_variable(v) for v in trainable]
        self._unreached = None

    def zeros(self) -> list:
        return [tf.zeros(v.shape, v.dtype) for v in self._variables]

    def add(self, sums: list, gradients: list) -> list:
        self._unreached = [gradient is None for gradient in gradients]
        return [s if g is None else s + g for s, g in zip(sums, gradients, strict=True)]

    def reached(self, sums: list) -> list:
        """The sums, None where there was no gradient in any round."""
        return [None if un else s for s, un in zip(sums, self._unreached, strict=True)]


class _Moving:
    """Moving averages, each micro-batch's taken from the same start."""

    def __init__(self, averages: Sequence):
        self._variables = [compat.tf_variable(v) for v in averages]
        self._before = [tf.identity(v) for v in self._variables]

    def zeros(self) -> list:
        return [tf.zeros_like(value) for value in self._before]

    def add(self, sums: list) -> list:
        """Adds by how much they have changed, and sets them back."""
        with_these = [
            s + (tf.identity(v) - before)
            for s, v, before in zip(sums, self._variables, self._before, strict=True)
        ]
        with tf.control_dependencies(with_these):
            self._assign(self._before)
        return with_these

    def assign_mean(self, sums: list, count: int):
        """Moves them by the mean of the changes; frozen ones stay what they are, to the bit."""
        moved = zip(self._before, sums, strict=True)
        self._assign([before + total / count for before, total in moved])

    def _assign(self, values: list):
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)
