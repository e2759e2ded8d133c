"""Minimizes the loss of multinomial logistic regression by L-BFGS in well-chosen variables.

L-BFGS needs hundreds of passes over features that are correlated. The Hessian by one row of weights
is the sum of p (1 - p) x x' plus l2, where p is the probability of the row's class. It is at most
X'X / 4 + l2 (Boehning, "Multinomial logistic regression algorithm", 1992). With the mean s of
p (1 - p) instead of 1/4, s X'X + l2 is about the Hessian. L-BFGS works on variables in which this
matrix is the identity, and needs five to forty passes. The matrix does not affect the minimum. It
need not be exact, and that of a part of the examples serves all of them.
"""

from typing import NamedTuple, Protocol

import numpy as np
import scipy.linalg
import scipy.optimize

from tf_simclr.probes.softmax_loss import Coefficients, SoftmaxLoss, Sums

# Rounding blurs eigenvalues of X'X that are smaller than this part of their sum.
_SMALLEST_RATIO = 1e-8


class Basis(Protocol):
    """Knows X'X / n of standardized features X (n, d)."""

    def of(self, curvature: float, l2: float) -> np.ndarray:
        """Returns B, float32 (d, d), with B'B about (curvature X'X / n + l2)^-1."""


class Cholesky(NamedTuple):
    """The basis for one strength. Each further strength takes another decomposition.

    Attributes:
      gram: X'X / n, float64 (d, d).
    """

    gram: np.ndarray

    def of(self, curvature: float, l2: float) -> np.ndarray:
        hessian = curvature * self.gram
        hessian[np.diag_indices_from(hessian)] += max(l2, _SMALLEST_RATIO * np.trace(hessian))
        factor = scipy.linalg.cholesky(hessian, lower=True, overwrite_a=True, check_finite=False)
        inverse, _ = scipy.linalg.lapack.dtrtri(factor, lower=True, overwrite_c=True)
        return inverse.astype(np.float32)


class Spectrum(NamedTuple):
    """The basis for many strengths. Its decomposition takes ten times as long as Cholesky's.

    Attributes:
      values: eigenvalues of X'X / n, float32 (d,), none negative.
      vectors: eigenvectors in columns, float32 (d, d).
    """

    values: np.ndarray
    vectors: np.ndarray

    def of(self, curvature: float, l2: float) -> np.ndarray:
        values = curvature * self.values
        floor = max(l2, _SMALLEST_RATIO * values.sum())
        return ((values + floor) ** -0.5)[:, None] * self.vectors.T


class Minimum(NamedTuple):
    """The end of a minimization.

    Attributes:
      coefficients: the point with the smallest loss.
      converged: whether the tolerance was reached within the allowed iterations.
      passes: number of passes over the features.
    """

    coefficients: Coefficients
    converged: bool
    passes: int


def cholesky(loss: SoftmaxLoss) -> Cholesky:
    """Computes X'X / n of a loss's standardized features X (n, d), for one strength."""
    return Cholesky(loss.gram() / loss.shape[0])


def decompose(loss: SoftmaxLoss) -> Spectrum:
    """Decomposes X'X / n of a loss's standardized features X (n, d), for many strengths."""
    gram = (loss.gram() / loss.shape[0]).astype(np.float32)
    values, vectors = scipy.linalg.eigh(gram, overwrite_a=True, check_finite=False, driver="evd")
    return Spectrum(np.maximum(values, 0), vectors)


def minimize(
    loss: SoftmaxLoss,
    basis: Basis,
    *,
    l2: float,
    start: Coefficients,
    tolerance: float,
    iterations: int,
) -> Minimum:
    """Minimizes the sum of the cross-entropies plus l2 / 2 |weights|^2 from a start.

    It ends when the loss per example is within the tolerance of the minimum, as estimated by
    |gradient|^2 / 2 in the variables in which the Hessian is about the identity.

    Args:
      loss: the cross-entropies.
      basis: from `cholesky` or `decompose`, of these features or of a large part of them.
      l2: strength of the regularization.
      start: where to begin.
      tolerance: in nats per example.
      iterations: limit for the iterations of L-BFGS.
    """
    search = _Search(loss, basis, l2, start, tolerance)
    if search.is_done():
        return search.minimum()
    scipy.optimize.minimize(
        search.evaluate,
        np.zeros(start.weights.size + start.bias.size),
        jac=True,
        method="L-BFGS-B",
        callback=search.stop_if_done,
        options={"maxiter": iterations, "maxfun": 2 * iterations, "ftol": 0, "gtol": 0},
    )
    return search.minimum()


class _Search:
    """Translates between L-BFGS's variables and coefficients.

    The weights are those of the start plus (V / unit) B, where B is the basis. L-BFGS's first step
    has length 1. The loss is multiplied by unit^2 such that the first gradient has length 1, which
    makes it Newton's step.
    """

    def __init__(
        self,
        loss: SoftmaxLoss,
        basis: Basis,
        l2: float,
        start: Coefficients,
        tolerance: float,
    ) -> None:
        self._loss, self._l2, self._start = loss, l2, start
        self._enough = 2 * tolerance * loss.shape[0]  # for the squared norm of the gradient
        sums = loss.sums(start)
        num_rows, n = len(start.bias), loss.shape[0]
        curvature = max(sums.curvature / num_rows, 1e-6 * n / num_rows)
        self._basis = basis.of(curvature, l2)
        self._bias_scale = curvature**-0.5
        self._unit = 1.0
        self._passes = 1
        self._first_value, self._first_gradient = self._translate(start, sums)
        self._squared_norm = float(self._first_gradient @ self._first_gradient)
        self._best = (self._first_value, self._squared_norm, start)
        if not self.is_done():
            self._unit = self._squared_norm**-0.5

    def is_done(self) -> bool:
        """Returns whether the last point is within the tolerance of the minimum."""
        return self._squared_norm <= self._enough

    def evaluate(self, variables: np.ndarray) -> tuple[float, np.ndarray]:
        """Returns the loss above that of the start, and its gradient, for L-BFGS."""
        if not variables.any():
            return 0.0, self._unit * self._first_gradient
        at = self._coefficients(variables / self._unit)
        self._passes += 1
        value, gradient = self._translate(at, self._loss.sums(at))
        self._squared_norm = float(gradient @ gradient)
        if self._squared_norm < self._best[1]:
            self._best = (value, self._squared_norm, at)
        return self._unit**2 * (value - self._first_value), self._unit * gradient

    def stop_if_done(self, intermediate_result: scipy.optimize.OptimizeResult) -> None:
        """Ends L-BFGS; SciPy calls it after each iteration."""
        if self.is_done():
            raise StopIteration

    def minimum(self) -> Minimum:
        """Returns the point with the smallest gradient."""
        _, squared_norm, coefficients = self._best
        return Minimum(coefficients, squared_norm <= self._enough, self._passes)

    def _coefficients(self, variables: np.ndarray) -> Coefficients:
        weights, bias = self._start
        v = variables[: weights.size].reshape(weights.shape).astype(np.float32)
        steps = v @ self._basis
        return Coefficients(weights + steps, bias + variables[weights.size :] * self._bias_scale)

    def _translate(self, at: Coefficients, sums: Sums) -> tuple[float, np.ndarray]:
        """Returns the regularized loss, and its gradient by L-BFGS's variables."""
        by_weights = (sums.weights + self._l2 * at.weights).astype(np.float32)
        by_v = (by_weights @ self._basis.T).astype(np.float64)
        value = sums.loss + self._l2 / 2 * float(np.sum(at.weights**2))
        return value, np.concatenate([by_v.ravel(), sums.bias * self._bias_scale])
