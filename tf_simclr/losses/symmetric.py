"""NT-Xent in blocks on one replica: each similarity is computed once for both of its anchors.

The formulas are in `blockwise`. Embeddings of length 1 bound the logits by 1 / temperature, and all
exponentials below are exp(S_ij - bound). With one bound for all rows, they are symmetric like S.
Row sums then belong to the block's anchors, and column sums to the anchors of the columns.

Between the views, a block of rows of view a is compared with all of view b. Within a view, the
blocks are arranged in a circle. Each is compared with itself and with its window: the half of the
circle after it. Each pair of blocks is thus compared once. With an even number of blocks, however,
opposite blocks are compared twice. Each of the two comparisons then uses only the row sums.

                 window
    block 0:   0 | 1  2             5 blocks: the window is 2 blocks, and both are shared
    block 1:   1 | 2  3             6 blocks: the window is 3 blocks, and the third is not shared
    block 4:   4 | 0  1
"""

import tensorflow as tf

from tf_simclr.losses.row_blocks import CircularBlocks, CircularRows

_PADDING_MASK = 1e9  # subtracted from the logits of padding


def losses(
    a: tf.Tensor, b: tf.Tensor, *, block_rows: int, bound: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Computes loss, hit and entropy, (n,) each, as in `blockwise.Terms`.

    Args:
      a: (n, d), embeddings of view a, scaled by sqrt(1 / temperature): their products are logits.
      b: (n, d), embeddings of view b, scaled in the same way.
      block_rows: rows of logits to hold at a time, < n.
      bound: logits are in [-bound, bound].
    """
    circle = CircularBlocks(a.shape[0], block_rows)

    @tf.custom_gradient
    def terms(a, b):
        similarities = _Similarities(circle, a, b, bound)
        negatives, positive, hit, entropy = similarities.compute_terms()

        def gradient(upstream, *_):
            # exp(S_ij - L_i) is the exponential of S_ij over the sum of all exponentials of row i.
            factors = [upstream / (negative + positive) for negative in negatives]
            positive_weights = -upstream * sum(
                negative / (negative + positive) for negative in negatives
            )
            return similarities.compute_gradients(factors, positive_weights)

        loss = sum(tf.math.log1p(negative / positive) for negative in negatives)
        return (loss, hit, entropy), gradient

    return terms(a, b)


class _Similarities:
    """The similarities of all embeddings of two views, a block at a time."""

    def __init__(self, circle: CircularBlocks, a: tf.Tensor, b: tf.Tensor, bound: float):
        self._circle, self._bound = circle, bound
        self._views = CircularRows(circle, a), CircularRows(circle, b)
        self._dtype, self._width = a.dtype, a.shape[1]
        # 1 for an embedding, 0 for padding; None without padding saves a pass over the logits.
        self._valid = None
        if circle.padded > circle.n:
            self._valid = CircularRows(circle, tf.ones(circle.n, a.dtype))
        self._zeros = tf.zeros(circle.rows_per_block, a.dtype)

    def compute_terms(self) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor, tf.Tensor]:
        """Computes the terms of all anchors.

        Returns:
          [sums of a, sums of b], the sums of the exponentials of each anchor's negatives; the
          exponential of the positive; hit; entropy. All are (n,).
        """
        circle = self._circle

        def forward_block(start, sums_a, sums_b, *arrays):
            row_sums, column_sums, *terms = self._compare_views(start)
            sums = [circle.add_to_block(sums_a, start, row_sums), sums_b + column_sums]
            for k, view in enumerate(self._views):
                row_sums, column_sums = self._compare_within(view, start)
                sums[k] = circle.add_to_block(sums[k], start, row_sums)
                sums[k] = circle.add_to_shared(sums[k], start, column_sums)
            number = start // circle.rows_per_block
            written = [array.write(number, x) for array, x in zip(arrays, terms, strict=True)]
            return [*sums, *written]

        sums = [tf.zeros(circle.padded, self._dtype)] * 2
        arrays = [
            tf.TensorArray(self._dtype, circle.count, element_shape=(circle.rows_per_block,))
            for _ in range(3)
        ]
        sums_a, sums_b, *arrays = circle.for_each_block(forward_block, [*sums, *arrays])
        positive, hit, entropy = (tf.reshape(x.stack(), [-1])[: circle.n] for x in arrays)
        return [sums_a[: circle.n], sums_b[: circle.n]], tf.exp(positive), hit, entropy

    def compute_gradients(
        self, factors: list[tf.Tensor], positive_weights: tf.Tensor
    ) -> list[tf.Tensor]:
        """Computes the gradients of a and b, (n, d) each.

        Args:
          factors: [factors of a, factors of b], (n,) each. The weights w_ij are exp(S_ij - bound) *
            (factor_i + factor_j).
          positive_weights: (n,), w of the positives.
        """
        circle = self._circle
        # Padding has a factor of 0 and adds nothing.
        rings = [CircularRows(circle, factor) for factor in factors]
        positive_weights = circle.pad(positive_weights)

        def backward_block(start, grad_a, grad_b):
            weights = circle.take(positive_weights, start)
            block_gradient, all_gradient = self._gradient_of_views(start, rings, weights)
            gradients = [
                circle.add_to_block(grad_a, start, block_gradient),
                grad_b + all_gradient,
            ]
            for k, (view, ring) in enumerate(zip(self._views, rings, strict=True)):
                block_gradient, shared_gradient = self._gradient_within(view, ring, start)
                gradients[k] = circle.add_to_block(gradients[k], start, block_gradient)
                gradients[k] = circle.add_to_shared(gradients[k], start, shared_gradient)
            return gradients

        zeros = [tf.zeros((circle.padded, self._width), self._dtype)] * 2
        gradients = circle.for_each_block(backward_block, zeros)
        return [gradient[: circle.n] for gradient in gradients]

    def _compare_views(self, start) -> tuple[tf.Tensor, ...]:
        """Compares a block of view a with all of view b.

        Returns:
          Sums over the negatives per row (rows,) and per column (padded,). Then per row, (rows,)
          each: the positive's logit minus the bound; hit; entropy.
        """
        a, b = self._views
        positions = self._circle.positions(start)
        diagonal = self._circle.diagonal(positions)
        logits = tf.matmul(a.block(start), b.rows, transpose_b=True) - self._bound
        if self._valid is not None:
            logits -= (1.0 - self._valid.rows) * _PADDING_MASK
        exponentials = tf.exp(logits)
        total = tf.reduce_sum(exponentials, axis=1)
        hit = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), positions)
        # Padding has an exponential of 0, so it adds nothing to the entropy.
        entropy = tf.math.log(total) - tf.reduce_sum(exponentials * logits, axis=1) / total
        positive = tf.gather_nd(logits, diagonal)
        exponentials = tf.tensor_scatter_nd_update(exponentials, diagonal, self._zeros)
        exponentials = self._without_padded_rows(exponentials, start)
        return (
            tf.reduce_sum(exponentials, axis=1),
            tf.reduce_sum(exponentials, axis=0),
            positive,
            tf.cast(hit, self._dtype),
            entropy,
        )

    def _compare_within(self, view: CircularRows, start) -> tuple[tf.Tensor, tf.Tensor]:
        """Compares a block of a view with itself and with its window.

        Returns:
          Sums over the negatives per row (rows,) and per shared column (shared_rows,).
        """
        block = view.block(start)
        same = self._exponentials(block, block)
        following = self._exponentials(block, view.window(start))
        if self._valid is not None:
            same *= self._valid.block(start)
            following *= self._valid.window(start)
        same = tf.linalg.set_diag(same, self._zeros)
        shared = self._without_padded_rows(following[:, : self._circle.shared_rows], start)
        row_sums = tf.reduce_sum(same, axis=1) + tf.reduce_sum(following, axis=1)
        return row_sums, tf.reduce_sum(shared, axis=0)

    def _gradient_of_views(self, start, factors, positive_weights) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what `_compare_views` adds to the gradients of its rows and of all of view b."""
        a, b = self._views
        block = a.block(start)
        weights = self._exponentials(block, b.rows)
        weights *= factors[0].block(start)[:, tf.newaxis] + factors[1].rows
        diagonal = self._circle.diagonal(self._circle.positions(start))
        weights = tf.tensor_scatter_nd_update(weights, diagonal, positive_weights)
        return tf.matmul(weights, b.rows), tf.matmul(weights, block, transpose_a=True)

    def _gradient_within(
        self, view: CircularRows, factors: CircularRows, start
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what `_compare_within` adds to the gradients of its rows and shared columns."""
        block, window = view.block(start), view.window(start)
        factor = factors.block(start)
        weights = self._exponentials(block, block) * (factor[:, tf.newaxis] + factor)
        gradient = tf.matmul(tf.linalg.set_diag(weights, self._zeros), block)
        weights = self._exponentials(block, window)
        weights *= factor[:, tf.newaxis] + factors.window(start)
        gradient += tf.matmul(weights, window)
        shared_weights = weights[:, : self._circle.shared_rows]
        return gradient, tf.matmul(shared_weights, block, transpose_a=True)

    def _exponentials(self, x, y) -> tf.Tensor:
        """Returns exp(S - bound) of the rows of x and y: (rows of x, rows of y)."""
        return tf.exp(tf.matmul(x, y, transpose_b=True) - self._bound)

    def _without_padded_rows(self, exponentials, start) -> tf.Tensor:
        if self._valid is None:
            return exponentials
        return exponentials * self._valid.block(start)[:, tf.newaxis]
