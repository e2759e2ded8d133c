"""Functions that replicas call inside strategy.run to count and to communicate.

Outside of strategy.run these functions behave as if there were one replica.
"""

import tensorflow as tf


def batch_size(tensor: tf.Tensor) -> int | tf.Tensor:
    """Returns the length of the first axis.

    It is an int if the shape is static, which TPUs need; otherwise a scalar tensor.
    """
    static = tensor.shape[0]
    return tf.shape(tensor)[0] if static is None else static


def num_replicas() -> int:
    """Returns the number of replicas; 1 outside of strategy.run."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def replica_id() -> int | tf.Tensor:
    """Returns the index of this replica, from 0; 0 outside of strategy.run."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def all_reduce_sum(tensor: tf.Tensor) -> tf.Tensor:
    """Sums a tensor over the replicas. All replicas must call it, and all get the sum."""
    if num_replicas() == 1:
        return tensor
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensor)


def global_positions(n: int | tf.Tensor) -> tf.Tensor:
    """Returns the indices of this replica's n rows in a gathered tensor, int32 (n,)."""
    return replica_id() * n + tf.range(n)


def gather_views(a: tf.Tensor, b: tf.Tensor) -> list[tf.Tensor]:
    """Gathers the projections of both views, (n, d) each, in one call of `gather`.

    One collective is faster than two.

    Returns:
      The projections of both views over all replicas, (n * num_replicas, d) each.
    """
    return tf.split(gather(tf.concat([a, b], axis=1)), 2, axis=1)


def gather(tensor: tf.Tensor) -> tf.Tensor:
    """Concatenates the tensors (n, d) of all replicas to (n * num_replicas, d), in replica order.

    The gradient for this replica's tensor is the sum of the gradients that arrive on all replicas.
    ReplicaContext.all_gather has another gradient: it gathers the gradients instead.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tensor

    @tf.custom_gradient
    def gather_with_gradient(part):
        size, width = batch_size(part), part.shape[1]

        def gradient(upstream):
            summed = context.all_reduce(tf.distribute.ReduceOp.SUM, upstream)
            start = context.replica_id_in_sync_group * size
            return tf.slice(summed, [start, 0], [size, width])

        gathered = context.all_gather(part, axis=0)
        # all_gather of MirroredStrategy loses the static shape when it uses collectives.
        return tf.reshape(gathered, [context.num_replicas_in_sync * size, width]), gradient

    return gather_with_gradient(tensor)
