"""NT-Xent in blocks of rows, without ever holding an n x 2m matrix of logits.

Notation: n anchors in each view on this replica, m = n * replicas images in all. S_ij is the logit
of embeddings i and j, z_i . z_j / temperature. For anchor i,

    p_i = its logit to its positive,
    o_i = logsumexp of its logits to all negatives (neither itself nor its positive),
    L_i = log(exp(o_i) + exp(p_i)),
    loss_i = L_i - p_i = log(1 + exp(o_i - p_i)).

The last form stays accurate for losses near 0, where L_i - p_i would cancel.

Forward: blocks of rows are computed one after the other. Each computes its logits and keeps p_i and
o_i, two numbers per anchor. Backward: each block computes its logits again. S is symmetric, so the
L of *both* embeddings give the whole gradient of a block's rows. With the upstream gradient u_i of
loss_i,

    d/dz_i = sum_j w_ij z_j / temperature,
    w_ij = u_i exp(S_ij - L_i) + u_j exp(S_ij - L_j)    for a negative j,
    w_ij = u_i (exp(p_i - L_i) - 1) + u_j (exp(p_i - L_j) - 1)    for the positive j,
    w_ii = 0,

where exp(p - L) - 1 = -exp(o - L) = -sigmoid(o - p).

Memory: O(block_rows * m) for the logits of a block and O(m * d) for the embeddings, instead of
O(n * m). Communication: the gradient needs L and u of all replicas, three numbers per image.
Autodiff would instead all-reduce gradients of the gathered embeddings' size.

A single replica holds all of S. There `symmetric` computes each similarity and its exponential only
once.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_simclr.devices import replicas
from tf_simclr.losses import symmetric
from tf_simclr.losses.row_blocks import RowBlocks

# exp(x) and 1/exp(x) are normal float32 numbers up to here, with room for sums.
_LARGEST_EXPONENT = 80.0
# Subtracted from an anchor's logits to itself and to its positive, which are not negatives.
_SELF_AND_POSITIVE_MASK = 1e9


class Terms(NamedTuple):
    """The terms of NT-Xent for each pair of views.

    Attributes:
      loss: (n,), loss of the anchor in view a plus loss of the anchor in view b.
      hit: (n,), 1 if the positive is the most similar to a of all embeddings of view b, else 0. No
        gradient flows back.
      entropy: (n,), in nats: entropy of the softmax of a's logits to all of view b. No gradient
        flows back.
    """

    loss: tf.Tensor
    hit: tf.Tensor
    entropy: tf.Tensor


def losses(
    a: tf.Tensor, b: tf.Tensor, *, temperature: float, normalized: bool, block_rows: int
) -> Terms:
    """Computes NT-Xent in blocks of rows, with the images of all replicas as negatives.

    Args:
      a: (n, d), this replica's embeddings of view a. Shapes must be static.
      b: (n, d), embeddings of view b in the same order.
      temperature: > 0.
      normalized: whether all embeddings have length 1.
      block_rows: rows of logits to hold at a time, < n.
    """
    # The products of the scaled embeddings are the logits.
    a, b = a / np.sqrt(temperature), b / np.sqrt(temperature)
    bound, n = 1.0 / temperature, a.shape[0]
    exponents_fit = 2 * bound + np.log(2 * n) < _LARGEST_EXPONENT
    if replicas.num_replicas() == 1 and normalized and exponents_fit:
        return Terms(*symmetric.losses(a, b, block_rows=block_rows, bound=bound))
    return Terms(*_losses(a, b, block_rows=block_rows))


class _Embeddings(NamedTuple):
    """Embeddings of one view, with their values in the backward pass.

    Attributes:
      z: (k, d).
      log_sums: (k,), L of the formula.
      upstream: (k,), u of the formula.
    """

    z: tf.Tensor
    log_sums: tf.Tensor
    upstream: tf.Tensor


def _losses(a: tf.Tensor, b: tf.Tensor, *, block_rows: int) -> tuple[tf.Tensor, ...]:
    """Computes the terms for any number of replicas, embeddings of any length, any temperature."""
    blocks = RowBlocks(a.shape[0], block_rows)
    dtype, width = a.dtype, a.shape[1]
    positions = replicas.global_positions(blocks.n)  # among the images of all replicas

    @tf.custom_gradient
    def terms(a, b):
        all_a, all_b = replicas.gather_views(a, b)  # (m, d) each
        rows = [blocks.pad(tensor) for tensor in (a, b, positions)]

        def forward(start):
            x, y, block_positions = (blocks.take(tensor, start) for tensor in rows)
            return _block_terms(blocks, x, y, all_a, all_b, block_positions)

        p_a, o_a, p_b, o_b, hit, entropy = blocks.map(forward, [dtype] * 6)
        loss_a, loss_b = tf.nn.softplus(o_a - p_a), tf.nn.softplus(o_b - p_b)
        log_sums = tf.stack([loss_a + p_a, loss_b + p_b], axis=1)
        all_log_sums = replicas.gather(log_sums)

        def gradient(upstream, *_):
            all_upstream = replicas.gather(upstream[:, tf.newaxis])[:, 0]
            all_log_a, all_log_b = tf.unstack(all_log_sums, axis=1)
            all_views = (
                _Embeddings(all_a, all_log_a, all_upstream),
                _Embeddings(all_b, all_log_b, all_upstream),
            )
            positive_weights = -upstream * (tf.sigmoid(o_a - p_a) + tf.sigmoid(o_b - p_b))
            log_a, log_b = tf.unstack(log_sums, axis=1)
            local = (a, b, log_a, log_b, upstream, positive_weights, positions)
            rows = [blocks.pad(tensor) for tensor in local]

            def backward(start):
                x, y, log_x, log_y, u, *positives = (blocks.take(tensor, start) for tensor in rows)
                views = _Embeddings(x, log_x, u), _Embeddings(y, log_y, u)
                return _block_gradient(blocks, views, all_views, *positives)

            return blocks.map(backward, [dtype] * 2, width=width)

        return (loss_a + loss_b, hit, entropy), gradient

    return terms(a, b)


def _block_terms(blocks: RowBlocks, x, y, all_a, all_b, positions) -> tuple[tf.Tensor, ...]:
    """Computes the forward pass of one block.

    Args:
      blocks: the division into blocks.
      x: (rows, d), the block of view a.
      y: (rows, d), the block of view b.
      all_a: (m, d), view a of all replicas.
      all_b: (m, d), view b of all replicas.
      positions: int32 (rows,), the block's row indices in all_a and all_b.

    Returns:
      p and o of view a, p and o of view b, hit and entropy: (rows,) each.
    """
    logits_ab = tf.matmul(x, all_b, transpose_b=True)  # (rows, m)
    logits_ba = tf.matmul(y, all_a, transpose_b=True)
    logits_aa = tf.matmul(x, all_a, transpose_b=True)
    logits_bb = tf.matmul(y, all_b, transpose_b=True)
    at_positive = blocks.diagonal(positions)
    # The column of the positive in one view is the column of the anchor itself in the other.
    mask = tf.one_hot(positions, all_a.shape[0], dtype=x.dtype) * _SELF_AND_POSITIVE_MASK
    hit = tf.equal(tf.argmax(logits_ab, axis=1, output_type=tf.int32), positions)
    return (
        tf.gather_nd(logits_ab, at_positive),
        _log_sum_of_negatives(logits_ab, logits_aa, mask),
        tf.gather_nd(logits_ba, at_positive),
        _log_sum_of_negatives(logits_ba, logits_bb, mask),
        tf.cast(hit, x.dtype),
        _entropy(logits_ab),
    )


def _log_sum_of_negatives(to_other_view, to_own_view, mask) -> tf.Tensor:
    """Returns o (rows,) from the logits (rows, m) to both views."""
    log_sums = [tf.reduce_logsumexp(logits - mask, 1) for logits in (to_other_view, to_own_view)]
    return tf.reduce_logsumexp(tf.stack(log_sums), axis=0)


def _entropy(logits) -> tf.Tensor:
    """Returns the entropy (rows,) in nats of the softmax of each row."""
    shifted = logits - tf.reduce_max(logits, axis=1, keepdims=True)
    exponentials = tf.exp(shifted)
    total = tf.reduce_sum(exponentials, axis=1)
    return tf.math.log(total) - tf.reduce_sum(exponentials * shifted, axis=1) / total


def _block_gradient(
    blocks: RowBlocks, views, all_views, positive_weights, positions
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes the backward pass of one block.

    Args:
      blocks: the division into blocks.
      views: `_Embeddings` of the block's rows of views a and b.
      all_views: `_Embeddings` of views a and b on all replicas.
      positive_weights: (rows,), w of the formula for the positives.
      positions: int32 (rows,), the block's row indices in all_views.

    Returns:
      The gradients with respect to the rows of a and of b, (rows, d) each.
    """
    (x, y), (all_a, all_b) = views, all_views
    at_diagonal = blocks.diagonal(positions)
    self_weights = tf.zeros(blocks.rows_per_block, x.z.dtype)
    return (
        _weighted_sum(x, all_a, at_diagonal, self_weights)
        + _weighted_sum(x, all_b, at_diagonal, positive_weights),
        _weighted_sum(y, all_b, at_diagonal, self_weights)
        + _weighted_sum(y, all_a, at_diagonal, positive_weights),
    )


def _weighted_sum(
    rows: _Embeddings, columns: _Embeddings, at_diagonal, diagonal_weights
) -> tf.Tensor:
    """Sums w_ij z_j over all columns j: (rows, d).

    Args:
      rows: the embeddings i of a block.
      columns: the embeddings j of one view.
      at_diagonal: int32 (rows, 2), the (row, column) indices where j is i itself or its positive.
      diagonal_weights: (rows,), the weights w at these indices.
    """
    logits = tf.matmul(rows.z, columns.z, transpose_b=True)
    weights = rows.upstream[:, tf.newaxis] * tf.exp(logits - rows.log_sums[:, tf.newaxis])
    weights += columns.upstream * tf.exp(logits - columns.log_sums)
    weights = tf.tensor_scatter_nd_update(weights, at_diagonal, diagonal_weights)
    return tf.matmul(weights, columns.z)
