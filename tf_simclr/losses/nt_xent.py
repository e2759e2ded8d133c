"""NT-Xent, the contrastive loss of SimCLR (paper, section 2.1 and Algorithm 1).

Scaled as in the official code: the mean over anchors a plus the mean over anchors b, which is twice
the paper's 1/(2N) normalisation.
"""

import tensorflow as tf

from tf_simclr.losses import blockwise

SELF_SIMILARITY_MASK = 1e9  # taken off an anchor's similarity to itself, as in the official code


# Up to this many logits in a matrix (n, m) blocks are no faster (tools/benchmark.py loss).
_DENSE_LOGITS = 2**18
_MOST_BLOCK_ROWS = 512
_MOST_BLOCK_LOGITS = 2**22  # 16 MiB of float32


def nt_xent(
    hidden, *, temperature: float, hidden_norm: bool = True, block_rows: int = 0
) -> dict[str, tf.Tensor]:
    """Normalised temperature-scaled cross-entropy over the batches of all replicas.

    Inside strategy.run each replica passes its own part; the negatives come from all of them, and
    the gradient of the sum of all replicas' losses flows back through the gathered tensors.

    Args:
      hidden: (2n, d), first the n hiddens of view a, then those of view b in the same order.
      temperature: > 0 (paper, section 5.1).
      hidden_norm: divide each hidden by its Euclidean length.
      block_rows: rows of the n x m logits that are in memory at a time (`blockwise`); n or more for
        all of them, 0 for what `automatic_block_rows` says. Loss and gradient are the same.

    Returns:
      contrast_loss (): mean over the local anchors.
      contrast_acc (): share of anchors a whose own b is the most similar of all b.
      contrast_entropy (): mean entropy in nats of the softmax over all b; no gradient flows back.
    """
    a, b = views(hidden, hidden_norm=hidden_norm)
    n, replicas = batch_size(a), num_replicas()
    if isinstance(n, int):
        block_rows = block_rows or automatic_block_rows(n, n * replicas)
    if isinstance(n, int) and block_rows < n:
        loss, hit, entropy = blockwise.losses(
            a, b, temperature=temperature, normalised=hidden_norm, block_rows=block_rows,
            own=replica_id() * n + tf.range(n), num_replicas=replicas, gather=gather,
        )  # fmt: skip
    else:
        loss, hit, entropy = _dense(a, b, temperature=temperature)
    return {
        "contrast_loss": tf.reduce_mean(loss),
        "contrast_acc": tf.reduce_mean(tf.cast(hit, tf.float32)),
        "contrast_entropy": tf.stop_gradient(tf.reduce_mean(entropy)),
    }


def automatic_block_rows(n: int, m: int) -> int:
    """Rows of logits at a time, for n local anchors a view and m images on all replicas."""
    if n * m <= _DENSE_LOGITS:
        return n
    return max(1, min(_MOST_BLOCK_ROWS, _MOST_BLOCK_LOGITS // m))


def views(hidden, *, hidden_norm: bool) -> list[tf.Tensor]:
    """The hiddens (2n, d) as they are compared: [a, b], (n, d) each, in at least float32."""
    hidden = at_least_float32(hidden)
    if hidden_norm:
        hidden = tf.math.l2_normalize(hidden, axis=-1)
    return tf.split(hidden, 2, axis=0)


def similarities(x, y, *, temperature: float) -> tf.Tensor:
    """Logits of the softmax: of x (n, d) to y (m, d), (n, m)."""
    return tf.matmul(x, y, transpose_b=True) / temperature


def _dense(a, b, *, temperature: float):
    """Losses, hits and entropies, (n,) each, from matrices of all logits."""
    all_a, all_b = gather_views(a, b)  # (m, d)
    n, m = batch_size(a), batch_size(all_a)
    own = replica_id() * n + tf.range(n)
    self_mask = tf.one_hot(own, m, dtype=a.dtype) * SELF_SIMILARITY_MASK

    logits_aa = similarities(a, all_a, temperature=temperature) - self_mask  # (n, m)
    logits_bb = similarities(b, all_b, temperature=temperature) - self_mask
    logits_ab = similarities(a, all_b, temperature=temperature)
    logits_ba = similarities(b, all_a, temperature=temperature)
    loss_a = tf.nn.sparse_softmax_cross_entropy_with_logits(
        own, tf.concat([logits_ab, logits_aa], axis=1)
    )
    loss_b = tf.nn.sparse_softmax_cross_entropy_with_logits(
        own, tf.concat([logits_ba, logits_bb], axis=1)
    )
    hit = tf.equal(tf.argmax(logits_ab, axis=1, output_type=tf.int32), own)
    log_probabilities = tf.nn.log_softmax(logits_ab)
    entropy = -tf.reduce_sum(tf.exp(log_probabilities) * log_probabilities, axis=1)
    return loss_a + loss_b, hit, entropy


def at_least_float32(tensor) -> tf.Tensor:
    """The tensor in float32, or in float64 where it is: losses do without half precision."""
    tensor = tf.convert_to_tensor(tensor)
    return tensor if tensor.dtype == tf.float64 else tf.cast(tensor, tf.float32)


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
