"""What replicas know about each other and exchange, inside of strategy.run.

Outside of strategy.run these functions behave as if there were one replica.
"""

import tensorflow as tf


def batch_size(tensor: tf.Tensor) -> int | tf.Tensor:
    """Returns the length of the first axis.

    It is an int if the shape is static, which TPUs need, and else a scalar tensor.
    """
    static = tensor.shape[0]
    return tf.shape(tensor)[0] if static is None else static


def num_replicas() -> int:
    """Returns the number of replicas; 1 outside of strategy.run."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def replica_id() -> int | tf.Tensor:
    """Returns the number of this replica, from 0; 0 outside of strategy.run."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def total(tensor: tf.Tensor) -> tf.Tensor:
    """Sums a tensor over the replicas. All of them must call it, and all get the sum."""
    if num_replicas() == 1:
        return tensor
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensor)


def own_rows(n: int | tf.Tensor) -> tf.Tensor:
    """Returns where the n rows of this replica lie in a gathered tensor, int32 (n,)."""
    return replica_id() * n + tf.range(n)


def gather_views(a: tf.Tensor, b: tf.Tensor) -> list[tf.Tensor]:
    """Gathers the projections of both views, (n, d) each (`gather`).

    One collective is faster than two.

    Returns:
      Both, (n * replicas, d) each.
    """
    return tf.split(gather(tf.concat([a, b], axis=1)), 2, axis=1)


def gather(tensor: tf.Tensor) -> tf.Tensor:
    """Concatenates the tensors (n, d) of all replicas to (n * replicas, d), in order of replica.

    Its gradient sums, over all replicas, the gradients with respect to this replica's part. The
    gradient of ReplicaContext.all_gather differs: it gathers the gradients instead.
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
