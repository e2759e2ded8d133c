"""What a replica knows of the others, and what it gets from them; outside of strategy.run one."""

import tensorflow as tf


def batch_size(tensor):
    """Length of the first axis: an int where it is known when tracing (TPUs need it), else ()."""
    static = tensor.shape[0]
    return tf.shape(tensor)[0] if static is None else static


def num_replicas() -> int:
    """Of the strategy that this runs in; 1 outside of strategy.run."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def replica_id():
    """This replica's place in the global batch; 0 outside of strategy.run."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def total(tensor):
    """Sums a tensor over the replicas: the same on each. All of them must call it."""
    if num_replicas() == 1:
        return tensor
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensor)


def own_rows(n):
    """Places of this replica's n rows among those of all replicas: int32 (n,)."""
    return replica_id() * n + tf.range(n)


def gather_views(a, b) -> list[tf.Tensor]:
    """`gather` of both views' hiddens, (n, d) each, by one collective, which is faster than two."""
    return tf.split(gather(tf.concat([a, b], axis=1)), 2, axis=1)


def gather(tensor):
    """Concatenates every replica's tensor (n, d) to (n * replicas, d), in the replicas' order.

    Its gradient is the sum over the replicas of the gradients with respect to this replica's part.
    (ReplicaContext.all_gather's own gradient is another one: it gathers the gradients.)
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tensor

    @tf.custom_gradient
    def gather_with_gradient(part):
        size, width = batch_size(part), part.shape[1]

        def gradient(upstream):
            total = context.all_reduce(tf.distribute.ReduceOp.SUM, upstream)
            start = context.replica_id_in_sync_group * size
            return tf.slice(total, [start, 0], [size, width])

        gathered = context.all_gather(part, axis=0)
        # With collectives MirroredStrategy's all_gather forgets the shape.
        return tf.reshape(gathered, [context.num_replicas_in_sync * size, width]), gradient

    return gather_with_gradient(tensor)
