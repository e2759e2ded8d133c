"""NT-Xent, the contrastive loss of SimCLR (paper, section 2.1 and Algorithm 1).

The scale is as in the official code: the mean over the anchors of view 1 plus the mean over the
anchors of view 2. That is twice the paper's loss, which divides by 2N.
"""

import tensorflow as tf

from tf_simclr.devices import replicas
from tf_simclr.losses import blockwise
from tf_simclr.precision import at_least_float32

_SELF_MASK = 1e9  # subtracted from an anchor's similarity to itself, as in the official code
# Bounds of a block. A smaller matrix is as fast in one piece (python -m benchmarks loss).
_MOST_BLOCK_ROWS = 512
_MOST_BLOCK_LOGITS = 2**22  # 16 MiB of float32


def nt_xent(
    z1: tf.Tensor,
    z2: tf.Tensor,
    *,
    temperature: float = 0.1,
    hidden_norm: bool = True,
    block_rows: int = 0,
) -> dict[str, tf.Tensor]:
    """Computes the normalized temperature-scaled cross-entropy over the batches of all replicas.

    Inside strategy.run, each replica passes its own part of the batch. The negatives come from all
    replicas. The gradient is the gradient of the sum of all replicas' losses.

    Example:
      >>> import tensorflow as tf
      >>> from tf_simclr import nt_xent
      >>> z1 = tf.constant([[1.0, 0.0], [0.0, 1.0]])
      >>> z2 = tf.constant([[0.9, 0.1], [0.1, 0.9]])
      >>> metrics = nt_xent(z1, z2, temperature=0.5)
      >>> print(f"{metrics['contrast_loss']:.3f}, {metrics['contrast_acc']:.0%}")
      0.593, 100%

    Args:
      z1: (n, d), projections of view 1.
      z2: (n, d), projections of view 2 of the same images in the same order.
      temperature: > 0 (paper, section 5.1).
      hidden_norm: divide each projection by its Euclidean length.
      block_rows: rows of the n x m logits to hold in memory at a time (`blockwise`), where m is the
        number of images on all replicas. n or more computes all rows at once; 0 chooses
        automatically (`automatic_block_rows`). Loss and gradient are the same up to rounding.

    Returns:
      contrast_loss (): the mean over this replica's view-1 anchors plus the mean over its view-2
        anchors.
      contrast_acc (): share of images whose view-1 projection is closer to their own view-2
        projection than to that of any other image.
      contrast_entropy (): mean entropy in nats of the softmax of view 1 over all of view 2. No
        gradient flows back.
    """
    return nt_xent_stacked(
        tf.concat([z1, z2], axis=0),
        temperature=temperature,
        hidden_norm=hidden_norm,
        block_rows=block_rows,
    )


def nt_xent_stacked(
    projections: tf.Tensor,
    *,
    temperature: float = 0.1,
    hidden_norm: bool = True,
    block_rows: int = 0,
) -> dict[str, tf.Tensor]:
    """Computes `nt_xent` of projections (2n, d): first all of view 1, then all of view 2.

    The model returns projections in this order, so no copy is needed.
    """
    a, b = split_projections(projections, hidden_norm=hidden_norm)
    n = replicas.batch_size(a)
    if isinstance(n, int):
        block_rows = block_rows or automatic_block_rows(n * replicas.num_replicas())
    if isinstance(n, int) and block_rows < n:
        loss, hit, entropy = blockwise.losses(
            a, b, temperature=temperature, normalized=hidden_norm, block_rows=block_rows
        )
    else:
        loss, hit, entropy = _dense(a, b, temperature=temperature)
    return {
        "contrast_loss": tf.reduce_mean(loss),
        "contrast_acc": tf.reduce_mean(tf.cast(hit, tf.float32)),
        "contrast_entropy": tf.stop_gradient(tf.reduce_mean(entropy)),
    }


def automatic_block_rows(num_images: int) -> int:
    """Returns how many rows of logits to hold at a time, for num_images on all replicas."""
    return max(1, min(_MOST_BLOCK_ROWS, _MOST_BLOCK_LOGITS // num_images))


def split_projections(projections: tf.Tensor, *, hidden_norm: bool) -> list[tf.Tensor]:
    """Splits projections (2n, d) into views [a, b], (n, d) each.

    They become at least float32, and have length 1 with hidden_norm.
    """
    projections = at_least_float32(projections)
    if hidden_norm:
        projections = tf.math.l2_normalize(projections, axis=-1)
    return tf.split(projections, 2, axis=0)


def logits(x: tf.Tensor, y: tf.Tensor, *, temperature: float) -> tf.Tensor:
    """Returns the logits between x (n, d) and y (m, d), similarity / temperature: (n, m)."""
    return tf.matmul(x, y, transpose_b=True) / temperature


def _dense(a: tf.Tensor, b: tf.Tensor, *, temperature: float) -> tuple[tf.Tensor, ...]:
    """Computes loss, hit and entropy, (n,) each, from the matrices of all logits."""
    all_a, all_b = replicas.gather_views(a, b)  # (m, d)
    m = replicas.batch_size(all_a)
    # The positions of this replica's images among all m.
    positions = replicas.global_positions(replicas.batch_size(a))
    self_mask = tf.one_hot(positions, m, dtype=a.dtype) * _SELF_MASK

    logits_aa = logits(a, all_a, temperature=temperature) - self_mask  # (n, m)
    logits_bb = logits(b, all_b, temperature=temperature) - self_mask
    logits_ab = logits(a, all_b, temperature=temperature)
    logits_ba = logits(b, all_a, temperature=temperature)
    loss_a = tf.nn.sparse_softmax_cross_entropy_with_logits(
        positions, tf.concat([logits_ab, logits_aa], axis=1)
    )
    loss_b = tf.nn.sparse_softmax_cross_entropy_with_logits(
        positions, tf.concat([logits_ba, logits_bb], axis=1)
    )
    hit = tf.equal(tf.argmax(logits_ab, axis=1, output_type=tf.int32), positions)
    log_probabilities = tf.nn.log_softmax(logits_ab)
    entropy = -tf.reduce_sum(tf.exp(log_probabilities) * log_probabilities, axis=1)
    return loss_a + loss_b, hit, entropy
