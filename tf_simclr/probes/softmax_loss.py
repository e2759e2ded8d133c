"""Computes the loss of multinomial logistic regression over features in blocks of rows.

The loss is scikit-learn's: the sum of the cross-entropies plus l2 / 2 times the squared norm of the
weights, excluding the bias. Two classes share one row of weights, as in scikit-learn, and the logit
of the first class is 0. Two rows would halve the effect of l2.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_simclr.probes.blocks import Matrix, Scaling, Standardized

_DOUBLE_BYTES = 2**26  # features up to this size are multiplied in float64
# Nats per example that the loss may be above its minimum. Below, rounding hides the differences.
_TOLERANCES = {tf.float64: 1e-12, tf.float32: 1e-8}


class Coefficients(NamedTuple):
    """The weights of a linear classifier of standardized features.

    Attributes:
      weights: float64 (r, d); r is the number of classes, but 1 for two classes.
      bias: float64 (r,).
    """

    weights: np.ndarray
    bias: np.ndarray

    def scores(self, features: tf.Tensor) -> np.ndarray:
        """Returns the logits (m, classes) of standardized features (m, d)."""
        logits = tf.matmul(features, tf.constant(self.weights, features.dtype), transpose_b=True)
        logits = logits.numpy() + self.bias
        return np.pad(logits, [(0, 0), (1, 0)]) if len(self.bias) == 1 else logits


class Sums(NamedTuple):
    """Sums over all examples.

    Attributes:
      loss: of the cross-entropies.
      weights: their gradient by the weights, float64 (r, d).
      bias: their gradient by the bias, float64 (r,).
      curvature: of p (1 - p), also summed over the rows of weights. p is the probability of the
        row's class.
    """

    loss: float
    weights: np.ndarray
    bias: np.ndarray
    curvature: float


class SoftmaxLoss:
    """The cross-entropies of standardized features.

    Attributes:
      shape: (n, d).
      tolerance: how far above its minimum the loss may be, in nats per example, to be called
        minimal. Closer is not possible with its precision.
    """

    def __init__(
        self, features: Matrix, targets: np.ndarray, num_classes: int, scaling: Scaling
    ) -> None:
        """Keeps small features in memory; larger ones are read again in every pass.

        Args:
          features: (n, d), not standardized.
          targets: int (n,) in [0, num_classes).
          num_classes: number of classes, at least 2.
          scaling: standardizes the features.
        """
        self.shape = features.shape
        # Few examples have a loss so small that differences of it drown in float32's rounding.
        is_small = 8 * self.shape[0] * max(self.shape[1], num_classes) <= _DOUBLE_BYTES
        dtype = tf.float64 if is_small else tf.float32
        self.tolerance = _TOLERANCES[dtype]
        self._features = Standardized(features, scaling, width=num_classes, dtype=dtype)
        self._targets = targets.astype(np.int32)
        self._counts = np.bincount(targets, minlength=num_classes)

    def start(self) -> Coefficients:
        """Returns the best coefficients whose weights are all 0."""
        bias = np.log(self._counts)
        bias = bias[1:] - bias[0] if len(bias) == 2 else bias - bias.mean()
        return Coefficients(np.zeros((len(bias), self.shape[1])), bias)

    def gram(self) -> np.ndarray:
        """Returns X'X of the standardized features X, float64 (d, d)."""
        total = np.zeros((self.shape[1], self.shape[1]))
        for _, block in self._features.blocks():
            total += tf.matmul(block, block, transpose_a=True).numpy()
        return total

    def sums(self, at: Coefficients) -> Sums:
        """Computes the loss and its gradients in one pass, added up in float64."""
        dtype = self._features.dtype
        weights, bias = tf.constant(at.weights, dtype), tf.constant(at.bias, dtype)
        loss, curvature = 0.0, 0.0
        by_weights, by_bias = np.zeros_like(at.weights), np.zeros_like(at.bias)
        for rows, block in self._features.blocks():
            targets = tf.constant(self._targets[rows])
            part = _block_sums(block, targets, weights, bias, is_binary=len(at.bias) == 1)
            loss += float(part.loss)
            by_weights += part.weights.numpy()
            by_bias += part.bias.numpy()
            curvature += float(part.curvature)
        return Sums(loss, by_weights, by_bias, curvature)


@tf.function(reduce_retracing=True)
def _block_sums(
    features: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor, bias: tf.Tensor, is_binary: bool
) -> Sums:
    """Computes the sums over the rows of a block, (m, d)."""
    logits = tf.matmul(features, weights, transpose_b=True) + bias
    if is_binary:
        logits = tf.pad(logits, [[0, 0], [1, 0]])
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
    p = tf.nn.softmax(logits)
    residuals = p - tf.one_hot(targets, tf.shape(logits)[1], dtype=p.dtype)
    if is_binary:
        p, residuals = p[:, 1:], residuals[:, 1:]
    return Sums(
        tf.reduce_sum(tf.cast(losses, tf.float64)),
        tf.matmul(residuals, features, transpose_a=True),
        tf.reduce_sum(tf.cast(residuals, tf.float64), axis=0),
        tf.reduce_sum(tf.cast(p * (1 - p), tf.float64)),
    )
