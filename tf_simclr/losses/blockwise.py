"""NT-Xent by blocks of rows: no n x 2m matrix of logits is ever held.

Forward keeps one log-sum-exp an anchor. Backward computes each block of logits again, and from it
and the log-sum-exps of *both* its sides the whole gradient of its rows: with S the symmetric matrix
of all similarities over temperature and L its rows' log-sum-exps, the gradient of sum(L) is

    d/dz_i = sum_j (exp(S_ij - L_i) + exp(S_ij - L_j)) z_j / temperature.

So backward the replicas exchange numbers, two an image, where autodiff through the gathered hiddens
sums gradients of the size of these.

On a single replica, where all of S is at hand, each similarity is computed once for both its
anchors, and one exponential does for both.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

# exp(x) and 1/exp(x) are normal float32 numbers up to here, with room for sums.
_LARGEST_EXPONENT = 80.0
_NO_PROBABILITY = 1e9  # taken off the logits of what is no example


def losses(
    a, b, *, temperature: float, normalised: bool, block_rows: int, own, num_replicas: int,
    gather: Callable,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:  # fmt: skip
    """The terms of NT-Xent, anchor pair by anchor pair.

    Args:
      a: (n, d) local hiddens of view a; shapes must be static.
      b: likewise of view b.
      temperature: > 0.
      normalised: rows of a and b have length 1.
      block_rows: rows of logits at a time, < n.
      own: int32 (n,), the places of the local rows among those of all replicas.
      num_replicas: of which this is one.
      gather: from a tensor (n, k) to all replicas' (n * num_replicas, k).

    Returns:
      loss: (n,), that of anchor a plus that of its anchor b.
      hit: (n,), 1 where a's own b is the most similar of all b, else 0; no gradient flows back.
      entropy: (n,), in nats, of a's softmax over all b; no gradient flows back.
    """
    a, b = a / np.sqrt(temperature), b / np.sqrt(temperature)  # now their products are the logits
    bound, n = 1.0 / temperature, a.shape[0]
    small = 2 * bound + np.log(2 * n) < _LARGEST_EXPONENT
    if num_replicas == 1 and normalised and small:
        sums, hit, entropy = _symmetric(a, b, block_rows=block_rows, bound=bound)
    else:
        sums, hit, entropy = _general(a, b, block_rows=block_rows, gather=gather, own=own)
    positives = tf.reduce_sum(a * b, axis=1)  # of both anchors
    return sums - 2.0 * positives, hit, entropy


def _general(a, b, *, block_rows: int, gather: Callable, own):
    """Log-sum-exps of both anchors, hit, entropy, for any number of replicas and any length."""
    n, d = a.shape
    blocks = _Blocks(n, block_rows)

    @tf.custom_gradient
    def terms(a, b):
        all_a, all_b = tf.split(gather(tf.concat([a, b], axis=1)), 2, axis=1)  # (m, d)
        m = all_a.shape[0]
        rows_a, rows_b, rows_own = blocks.pad(a), blocks.pad(b), blocks.pad(own)

        def without_self(logits, own):
            return logits - tf.one_hot(own, m, dtype=logits.dtype) * _NO_PROBABILITY

        def of_block(start):
            x, y, own = (blocks.take(t, start) for t in (rows_a, rows_b, rows_own))
            logits_ab = tf.matmul(x, all_b, transpose_b=True)  # (block, m)
            hit = tf.equal(tf.argmax(logits_ab, axis=1, output_type=tf.int32), own)
            largest = tf.reduce_max(logits_ab, axis=1, keepdims=True)
            shifted = logits_ab - largest
            exponentials = tf.exp(shifted)
            total = tf.reduce_sum(exponentials, axis=1)
            entropy = tf.math.log(total) - tf.reduce_sum(exponentials * shifted, axis=1) / total
            others_a = without_self(tf.matmul(x, all_a, transpose_b=True), own)
            others_b = without_self(tf.matmul(y, all_b, transpose_b=True), own)
            logits_ba = tf.matmul(y, all_a, transpose_b=True)
            log_ab = largest[:, 0] + tf.math.log(total)
            return (
                _log_add(log_ab, tf.reduce_logsumexp(others_a, axis=1)),
                _log_add(tf.reduce_logsumexp(logits_ba, 1), tf.reduce_logsumexp(others_b, 1)),
                tf.cast(hit, a.dtype),
                entropy,
            )

        log_a, log_b, hit, entropy = blocks.map(of_block, [a.dtype] * 4)
        all_logs = gather(tf.stack([log_a, log_b], axis=1))

        def gradient(upstream, *_):
            # The other replicas' sums hold these hiddens, too.
            all_upstream = gather(upstream[:, tf.newaxis])[:, 0]
            all_log_a, all_log_b = tf.unstack(all_logs, axis=1)
            parts = [blocks.pad(t) for t in (a, b, log_a, log_b, upstream, own)]

            def weighted(logits, log, upstream, all_log):
                mine = upstream[:, tf.newaxis] * tf.exp(logits - log[:, tf.newaxis])
                return mine + all_upstream * tf.exp(logits - all_log)

            def of_block(start):
                x, y, log_x, log_y, up, own = (blocks.take(t, start) for t in parts)

                def one_view(rows, log, same, same_log, other, other_log):
                    to_same = without_self(tf.matmul(rows, same, transpose_b=True), own)
                    to_other = tf.matmul(rows, other, transpose_b=True)
                    return tf.matmul(weighted(to_same, log, up, same_log), same) + tf.matmul(
                        weighted(to_other, log, up, other_log), other
                    )

                return (
                    one_view(x, log_x, all_a, all_log_a, all_b, all_log_b),
                    one_view(y, log_y, all_b, all_log_b, all_a, all_log_a),
                )

            return blocks.map(of_block, [a.dtype] * 2, width=d)

        return (log_a + log_b, hit, entropy), gradient

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
        return tf.slice(t, [start + blocks.rows] + [0] * (t.shape.rank - 1),
                        [window_rows, *t.shape[1:]])  # fmt: skip

    def add_at(circle_of, start, value):
        """Adds value to the rows of the window that follows the block at start."""
        place = (start + blocks.rows + tf.range(value.shape[0])) % blocks.padded
        return tf.tensor_scatter_nd_add(circle_of, place[:, tf.newaxis], value)

    @tf.custom_gradient
    def terms(a, b):
        views = [blocks.pad(a), blocks.pad(b)]
        double = [circle(t) for t in views]
        valid = blocks.valid(a.dtype)
        valid_double = None if valid is None else circle(valid)

        def followers_valid(start):
            return None if valid is None else follow(valid_double, start)

        def forward(start, sums_a, sums_b, hit, entropy):
            sums = [sums_a, sums_b]
            x = blocks.take(views[0], start)
            place = start + tf.range(blocks.rows)
            logits = tf.matmul(x, views[1], transpose_b=True) - bound
            if valid is not None:
                logits -= (1.0 - valid) * _NO_PROBABILITY
            found = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), place)
            e = tf.exp(logits)
            total = tf.reduce_sum(e, axis=1)
            # Where the exponential is 0, so is its part of the entropy.
            spread = tf.math.log(total) - tf.reduce_sum(e * logits, axis=1) / total
            hit = hit.write(start // blocks.rows, tf.cast(found, a.dtype))
            entropy = entropy.write(start // blocks.rows, spread)
            if valid is not None:
                e *= blocks.take(valid, start)[:, tf.newaxis]
            rows, columns = [total, 0.0], [None, tf.reduce_sum(e, axis=0)]
            new = []
            for view in (0, 1):
                x = blocks.take(views[view], start)
                same = exponentials(x, x, None if valid is None else blocks.take(valid, start))
                same = tf.linalg.set_diag(same, tf.zeros(blocks.rows, a.dtype))
                next_ones = exponentials(x, follow(double[view], start), followers_valid(start))
                own_rows = rows[view] + tf.reduce_sum(same, 1) + tf.reduce_sum(next_ones, 1)
                total = sums[view] if columns[view] is None else sums[view] + columns[view]
                total = tf.tensor_scatter_nd_add(total, place[:, tf.newaxis], own_rows)
                shared = next_ones[:, :shared_rows]
                if valid is not None:
                    shared *= blocks.take(valid, start)[:, tf.newaxis]
                new.append(add_at(total, start, tf.reduce_sum(shared, axis=0)))
            return [start + blocks.rows, *new, hit, entropy]

        hit, entropy = (
            tf.TensorArray(a.dtype, blocks.count, element_shape=(blocks.rows,)) for _ in range(2)
        )
        _, *sums, hit, entropy = tf.while_loop(
            lambda start, *_: start < blocks.padded, forward,
            [0, *[tf.zeros(blocks.padded, a.dtype)] * 2, hit, entropy],
            parallel_iterations=1, maximum_iterations=blocks.count,
        )  # fmt: skip
        logs = [tf.math.log(s[:n]) + bound for s in sums]

        def gradient(upstream, *_):
            # What fills the last block up is 0 and has a factor of 0: it adds nothing.
            factors = [blocks.pad(upstream / s[:n]) for s in sums]
            double_factors = [circle(t) for t in factors]

            def backward(start, grad_a, grad_b):
                place = (start + tf.range(blocks.rows))[:, tf.newaxis]
                x, factor = blocks.take(views[0], start), blocks.take(factors[0], start)
                w = exponentials(x, views[1]) * (factor[:, tf.newaxis] + factors[1])
                grads = [grad_a, grad_b + tf.matmul(w, x, transpose_a=True)]
                from_other = [tf.matmul(w, views[1]), 0.0]
                for view in (0, 1):
                    x, factor = blocks.take(views[view], start), blocks.take(factors[view], start)
                    w = exponentials(x, x) * (factor[:, tf.newaxis] + factor)
                    w = tf.linalg.set_diag(w, tf.zeros(blocks.rows, a.dtype))
                    own = from_other[view] + tf.matmul(w, x)
                    y = follow(double[view], start)
                    w = exponentials(x, y)
                    w *= factor[:, tf.newaxis] + follow(double_factors[view], start)
                    own += tf.matmul(w, y)
                    shared = tf.matmul(w[:, :shared_rows], x, transpose_a=True)
                    grads[view] = tf.tensor_scatter_nd_add(grads[view], place, own)
                    grads[view] = add_at(grads[view], start, shared)
                return [start + blocks.rows, *grads]

            _, *grads = tf.while_loop(
                lambda start, *_: start < blocks.padded, backward,
                [0, *[tf.zeros((blocks.padded, d), a.dtype)] * 2],
                parallel_iterations=1, maximum_iterations=blocks.count,
            )  # fmt: skip
            return [g[:n] for g in grads]

        outputs = [tf.reshape(t.stack(), [-1])[:n] for t in (hit, entropy)]
        return (logs[0] + logs[1], *outputs), gradient

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


def _log_add(x, y):
    """log(exp(x) + exp(y))."""
    return tf.reduce_logsumexp(tf.stack([x, y]), axis=0)
