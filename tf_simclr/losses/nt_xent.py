"""NT-Xent, the contrastive loss of SimCLR (paper, section 2.1 and Algorithm 1).

Scaled as in the official code: the mean over anchors a plus the mean over anchors b, which is twice
the paper's 1/(2N) normalisation.
"""

import tensorflow as tf

from tf_simclr.devices import replicas
from tf_simclr.losses import blockwise
from tf_simclr.precision import at_least_float32

SELF_SIMILARITY_MASK = 1e9  # taken off an anchor's similarity to itself, as in the official code
# Smaller matrices of logits than these blocks are as fast whole (python -m benchmarks loss).
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
    n = replicas.batch_size(a)
    if isinstance(n, int):
        block_rows = block_rows or automatic_block_rows(n * replicas.num_replicas())
    if isinstance(n, int) and block_rows < n:
        loss, hit, entropy = blockwise.losses(
            a, b, temperature=temperature, normalised=hidden_norm, block_rows=block_rows
        )
    else:
        loss, hit, entropy = _dense(a, b, temperature=temperature)
    return {
        "contrast_loss": tf.reduce_mean(loss),
        "contrast_acc": tf.reduce_mean(tf.cast(hit, tf.float32)),
        "contrast_entropy": tf.stop_gradient(tf.reduce_mean(entropy)),
    }


def automatic_block_rows(m: int) -> int:
    """Rows of logits at a time, where all replicas have m images."""
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
    all_a, all_b = replicas.gather_views(a, b)  # (m, d)
    m = replicas.batch_size(all_a)
    own = replicas.own_rows(replicas.batch_size(a))
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
