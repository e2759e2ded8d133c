"""NT-Xent by blocks of rows: no n x 2m matrix of logits is ever held.

Forward keeps two numbers an anchor: its logit to its positive, p, and the log-sum-exp of all its
other logits, o. Its loss is log(1 + exp(o - p)), which is as accurate for a loss near 0 as for any
other; a difference of the whole log-sum-exp and p would not be. Backward computes each block of
logits again, and from it and the log-sum-exps of *both* its sides the whole gradient of its rows:
with S the symmetric matrix of all similarities over temperature and L = log(exp(o) + exp(p)) of a
row, the gradient of the sum of all losses is

    d/dz_i = sum_j (exp(S_ij - L_i) + exp(S_ij - L_j)) z_j / temperature,

but for the positive, whose factor is, for either anchor, exp(p - L) - 1 = -exp(o - L).

So backward the replicas exchange numbers, two an image, where autodiff through the gathered hiddens
sums gradients of the size of these.

On a single replica, where all of S is at hand, each similarity is computed once for both its
anchors, and one exponential does for both.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tf_simclr.devices import replicas

# exp(x) and 1/exp(x) are normal float32 numbers up to here, with room for sums.
_LARGEST_EXPONENT = 80.0
_NO_PROBABILITY = 1e9  # taken off the logits of what is no example


def losses(
    a, b, *, temperature: float, normalised: bool, block_rows: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The terms of NT-Xent, anchor pair by anchor pair, with all replicas' images as negatives.

    Args:
      a: (n, d) local hiddens of view a; shapes must be static.
      b: likewise of view b.
      temperature: > 0.
      normalised: rows of a and b have length 1.
      block_rows: rows of logits at a time, < n.

    Returns:
      loss: (n,), that of anchor a plus that of its anchor b.
      hit: (n,), 1 where a's own b is the most similar of all b, else 0; no gradient flows back.
      entropy: (n,), in nats, of a's softmax over all b; no gradient flows back.
    """
    a, b = a / np.sqrt(temperature), b / np.sqrt(temperature)  # now their products are the logits
    bound, n = 1.0 / temperature, a.shape[0]
    small = 2 * bound + np.log(2 * n) < _LARGEST_EXPONENT
    if replicas.num_replicas() == 1 and normalised and small:
        return _symmetric(a, b, block_rows=block_rows, bound=bound)
    return _general(a, b, block_rows=block_rows)


def _general(a, b, *, block_rows: int):
    """For any number of replicas, any length of the hiddens and any temperature."""
    n, d = a.shape
    blocks = _Blocks(n, block_rows)
    own = replicas.own_rows(n)

    @tf.custom_gradient
    def terms(a, b):
        all_a, all_b = replicas.gather_views(a, b)  # (m, d)
        m = all_a.shape[0]
        rows_a, rows_b, rows_own = blocks.pad(a), blocks.pad(b), blocks.pad(own)

        def of_block(start):
            x, y, own = (blocks.take(t, start) for t in (rows_a, rows_b, rows_own))
            is_own = tf.one_hot(own, m, dtype=a.dtype)
            places = tf.stack([tf.range(blocks.rows), own], axis=1)

            def log_of_others(*logits):
                """Log-sum-exp over two matrices, but for oneself and one's positive."""
                logs = [tf.reduce_logsumexp(t - is_own * _NO_PROBABILITY, 1) for t in logits]
                return tf.reduce_logsumexp(tf.stack(logs), axis=0)

            logits_ab = tf.matmul(x, all_b, transpose_b=True)  # (block, m)
            logits_ba = tf.matmul(y, all_a, transpose_b=True)
            logits_aa = tf.matmul(x, all_a, transpose_b=True)
            logits_bb = tf.matmul(y, all_b, transpose_b=True)
            hit = tf.equal(tf.argmax(logits_ab, axis=1, output_type=tf.int32), own)
            shifted = logits_ab - tf.reduce_max(logits_ab, axis=1, keepdims=True)
            exponentials = tf.exp(shifted)
            total = tf.reduce_sum(exponentials, axis=1)
            entropy = tf.math.log(total) - tf.reduce_sum(exponentials * shifted, axis=1) / total
            return (
                tf.gather_nd(logits_ab, places),
                log_of_others(logits_ab, logits_aa),
                tf.gather_nd(logits_ba, places),
                log_of_others(logits_ba, logits_bb),
                tf.cast(hit, a.dtype),
                entropy,
            )

        pos_a, others_a, pos_b, others_b, hit, entropy = blocks.map(of_block, [a.dtype] * 6)
        gap_a, gap_b = others_a - pos_a, others_b - pos_b
        loss_a, loss_b = tf.nn.softplus(gap_a), tf.nn.softplus(gap_b)
        log_a, log_b = loss_a + pos_a, loss_b + pos_b
        all_logs = replicas.gather(tf.stack([log_a, log_b], axis=1))

        def gradient(upstream, *_):
            # The other replicas' sums hold these hiddens, too.
            all_upstream = replicas.gather(upstream[:, tf.newaxis])[:, 0]
            all_log_a, all_log_b = tf.unstack(all_logs, axis=1)
            of_positive = -upstream * (tf.sigmoid(gap_a) + tf.sigmoid(gap_b))
            parts = [blocks.pad(t) for t in (a, b, log_a, log_b, upstream, of_positive, own)]

            def of_block(start):
                x, y, log_x, log_y, up, of_positive, own = (blocks.take(t, start) for t in parts)
                places = tf.stack([tf.range(blocks.rows), own], axis=1)

                def weighted_sum(rows, log, others, other_log, of_own):
                    """Of all others, by their weights; of_own is that of one's own place."""
                    logits = tf.matmul(rows, others, transpose_b=True)
                    weights = up[:, tf.newaxis] * tf.exp(logits - log[:, tf.newaxis])
                    weights += all_upstream * tf.exp(logits - other_log)
                    weights = tf.tensor_scatter_nd_update(weights, places, of_own)
                    return tf.matmul(weights, others)

                of_self = tf.zeros(blocks.rows, a.dtype)
                return (
                    weighted_sum(x, log_x, all_a, all_log_a, of_self)
                    + weighted_sum(x, log_x, all_b, all_log_b, of_positive),
                    weighted_sum(y, log_y, all_b, all_log_b, of_self)
                    + weighted_sum(y, log_y, all_a, all_log_a, of_positive),
                )

            return blocks.map(of_block, [a.dtype] * 2, width=d)

        return (loss_a + loss_b, hit, entropy), gradient

    return terms(a, b)


def _symmetric(a, b, *, block_rows: int, bound: float):
    """As _general, for one replica and logits that are known to lie between -bound and bound.

    A block of rows of view a meets all of b. Among themselves the blocks of a view are on a circle,
    and each meets the half of them that follows it, so that each pair of blocks meets once.
    """
    n, d = a.shape
    blocks = _Blocks(n, block_rows)
    half = blocks.count // 2
    # Of an even circle, opposite blocks meet twice: then each takes its own rows only.
    shared_rows = (half - 1 if blocks.count % 2 == 0 else half) * blocks.rows
    window_rows = half * blocks.rows

    def exponentials(x, y, valid=None):
        e = tf.exp(tf.matmul(x, y, transpose_b=True) - bound)
        return e if valid is None else e * valid

    def circle(t):
        """Two rounds of the rows, so that a window never ends."""
        return tf.concat([t, t], axis=0)

    def follow(t, start):
        return tf.slice(
            t, [start + blocks.rows] + [0] * (t.shape.rank - 1), [window_rows, *t.shape[1:]]
        )

    def add_at(rows, places, value):
        return tf.tensor_scatter_nd_add(rows, places[:, tf.newaxis], value)

    def places_of(start):
        return start + tf.range(blocks.rows)

    def places_that_follow(start, count):
        return (start + blocks.rows + tf.range(count)) % blocks.padded

    def diagonal(start):
        """Where in a block of logits (rows, padded) the positives are."""
        return tf.stack([tf.range(blocks.rows), places_of(start)], axis=1)

    @tf.custom_gradient
    def terms(a, b):
        views = [blocks.pad(a), blocks.pad(b)]
        double = [circle(t) for t in views]
        valid = blocks.valid(a.dtype)
        valid_double = None if valid is None else circle(valid)
        no_rows = tf.zeros(blocks.rows, a.dtype)

        def forward(start, others_a, others_b, positive, hit, entropy):
            places, positives = places_of(start), diagonal(start)
            logits = tf.matmul(blocks.take(views[0], start), views[1], transpose_b=True) - bound
            if valid is not None:
                logits -= (1.0 - valid) * _NO_PROBABILITY
            e = tf.exp(logits)
            total = tf.reduce_sum(e, axis=1)
            found = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), places)
            # Where the exponential is 0, so is its part of the entropy.
            spread = tf.math.log(total) - tf.reduce_sum(e * logits, axis=1) / total
            kept = (tf.gather_nd(logits, positives), tf.cast(found, a.dtype), spread)
            arrays = [
                array.write(start // blocks.rows, value)
                for array, value in zip((positive, hit, entropy), kept, strict=True)
            ]
            e = tf.tensor_scatter_nd_update(e, positives, no_rows)
            if valid is not None:
                e *= blocks.take(valid, start)[:, tf.newaxis]
            others = [
                add_at(others_a, places, tf.reduce_sum(e, axis=1)),
                others_b + tf.reduce_sum(e, axis=0),
            ]
            for view in (0, 1):
                x = blocks.take(views[view], start)
                same = exponentials(x, x, None if valid is None else blocks.take(valid, start))
                same = tf.linalg.set_diag(same, no_rows)
                next_ones = exponentials(
                    x,
                    follow(double[view], start),
                    None if valid is None else follow(valid_double, start),
                )
                own = tf.reduce_sum(same, axis=1) + tf.reduce_sum(next_ones, axis=1)
                others[view] = add_at(others[view], places, own)
                shared = next_ones[:, :shared_rows]
                if valid is not None:
                    shared *= blocks.take(valid, start)[:, tf.newaxis]
                others[view] = add_at(
                    others[view], places_that_follow(start, shared_rows), tf.reduce_sum(shared, 0)
                )
            return [start + blocks.rows, *others, *arrays]

        arrays = [
            tf.TensorArray(a.dtype, blocks.count, element_shape=(blocks.rows,)) for _ in range(3)
        ]
        _, *others, positive, hit, entropy = tf.while_loop(
            lambda start, *_: start < blocks.padded,
            forward,
            [0, *[tf.zeros(blocks.padded, a.dtype)] * 2, *arrays],
            parallel_iterations=1,
            maximum_iterations=blocks.count,
        )
        others = [t[:n] for t in others]
        positive, hit, entropy = (tf.reshape(t.stack(), [-1])[:n] for t in (positive, hit, entropy))
        positive = tf.exp(positive)

        def gradient(upstream, *_):
            # What fills the last block up is 0 and has a factor of 0: it adds nothing.
            factors = [blocks.pad(upstream / (o + positive)) for o in others]
            double_factors = [circle(t) for t in factors]
            of_positive = blocks.pad(-upstream * sum(o / (o + positive) for o in others))

            def backward(start, grad_a, grad_b):
                places = places_of(start)
                x, factor = blocks.take(views[0], start), blocks.take(factors[0], start)
                w = exponentials(x, views[1]) * (factor[:, tf.newaxis] + factors[1])
                w = tf.tensor_scatter_nd_update(w, diagonal(start), blocks.take(of_positive, start))
                grads = [
                    add_at(grad_a, places, tf.matmul(w, views[1])),
                    grad_b + tf.matmul(w, x, transpose_a=True),
                ]
                for view in (0, 1):
                    x, factor = blocks.take(views[view], start), blocks.take(factors[view], start)
                    w = exponentials(x, x) * (factor[:, tf.newaxis] + factor)
                    own = tf.matmul(tf.linalg.set_diag(w, no_rows), x)
                    y = follow(double[view], start)
                    w = exponentials(x, y)
                    w *= factor[:, tf.newaxis] + follow(double_factors[view], start)
                    grads[view] = add_at(grads[view], places, own + tf.matmul(w, y))
                    shared = tf.matmul(w[:, :shared_rows], x, transpose_a=True)
                    grads[view] = add_at(
                        grads[view], places_that_follow(start, shared_rows), shared
                    )
                return [start + blocks.rows, *grads]

            _, *grads = tf.while_loop(
                lambda start, *_: start < blocks.padded,
                backward,
                [0, *[tf.zeros((blocks.padded, d), a.dtype)] * 2],
                parallel_iterations=1,
                maximum_iterations=blocks.count,
            )
            return [g[:n] for g in grads]

        loss = sum(tf.math.log1p(o / positive) for o in others)
        return (loss, hit, entropy), gradient

    return terms(a, b)


class _Blocks:
    """How n rows are cut into equal blocks, the last of which is filled up with zeros."""

    def __init__(self, n: int, block_rows: int):
        self.n = n
        self.count = -(-n // block_rows)
        self.rows = -(-n // self.count)
        self.padded = self.count * self.rows

    def pad(self, tensor) -> tf.Tensor:
        """(n, ...) -> (padded, ...)."""
        missing = [[0, self.padded - self.n]] + [[0, 0]] * (len(tensor.shape) - 1)
        return tf.pad(tensor, missing) if self.padded > self.n else tensor

    def valid(self, dtype) -> tf.Tensor | None:
        """(padded,), 1 for an example and 0 for filling; None where there is no filling."""
        if self.padded == self.n:
            return None
        return tf.cast(tf.range(self.padded) < self.n, dtype)

    def take(self, tensor, start) -> tf.Tensor:
        """The block that begins at row start: (rows, ...)."""
        rank = tensor.shape.rank
        return tf.slice(tensor, [start] + [0] * (rank - 1), [self.rows, *tensor.shape[1:]])

    def map(self, function: Callable, dtypes: list, *, width: int | None = None) -> list:
        """function(start) of each block, one after the other, joined to (n,) or (n, width)."""
        shape = (self.rows,) if width is None else (self.rows, width)
        joined = tf.map_fn(
            function,
            tf.range(0, self.padded, self.rows),
            fn_output_signature=tuple(tf.TensorSpec(shape, dtype) for dtype in dtypes),
            parallel_iterations=1,  # or many blocks would be in memory at once
        )
        return [tf.reshape(t, (-1, *shape[1:]))[: self.n] for t in joined]
