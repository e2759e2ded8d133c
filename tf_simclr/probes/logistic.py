"""Multinomial logistic regression on frozen features by L-BFGS (SimCLR paper, appendix B.8).

The loss is the sum of the cross-entropies plus l2 / 2 times the squared norm of the weights,
excluding the bias, as in scikit-learn's LogisticRegression with C = 1 / l2. Features are
standardized by the mean and standard deviation of the training set, which the paper does not
mention. Otherwise the same l2 would have a different effect for each encoder.

Features may be memory maps: they are read in blocks.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import train_test_split

from tf_simclr.console import progress
from tf_simclr.probes import blocks, lbfgs, metrics
from tf_simclr.probes.blocks import Matrix, Scaling, Standardized
from tf_simclr.probes.lbfgs import Minimum, Spectrum
from tf_simclr.probes.softmax_loss import Coefficients, SoftmaxLoss

STRENGTHS = tuple(np.logspace(-6, 5, 45).tolist())
MAX_ITERATIONS = 300  # iterations of L-BFGS
# Nats per example that the loss may be above its minimum in a sweep, which compares accuracies. On
# the pixels of CIFAR-10, a tolerance of 1e-8 takes three times as many passes, chooses the same
# strength, and changes the accuracies of the 45 strengths by at most 0.2 points.
SWEEP_TOLERANCE = 1e-5
VALIDATION_SHARE = 0.1


@dataclasses.dataclass(frozen=True)
class Probe:
    """A fitted classifier.

    Attributes:
      l2: the strength of its regularization.
      converged: whether L-BFGS converged within the allowed iterations.
      coefficients: of the standardized features.
      scaling: standardizes the features.
      classes: the class indices that occurred in training, in rising order.
    """

    l2: float
    converged: bool
    coefficients: Coefficients
    scaling: Scaling
    classes: np.ndarray

    def ranks(self, features: np.ndarray | Matrix, labels: np.ndarray) -> np.ndarray:
        """Returns the ranks (n,) of the correct classes (`metrics.ranks`) for features (n, d)."""
        standardized = _standardize(blocks.as_matrix(features), self.scaling, self.classes)
        return _ranks(self.coefficients, self.classes, standardized, labels)


def fit(
    features: np.ndarray | Matrix,
    labels: np.ndarray,
    *,
    l2: float = 1.0,
    iterations: int = MAX_ITERATIONS,
    tolerance: float | None = None,
    start: Coefficients | None = None,
    spectrum: Spectrum | None = None,
) -> Probe:
    """Fits a classifier at one strength.

    Args:
      features: (n, d).
      labels: class indices (n,).
      l2: the strength of the regularization.
      iterations: limit for L-BFGS. A fit that has not converged by then is still used.
      tolerance: nats per example that the loss may be above its minimum; None for as close as the
        precision allows.
      start: coefficients to start from. They are ignored if they are for another number of classes.
      spectrum: of a large part of the features, if it is known (`lbfgs.decompose`).

    Raises:
      ValueError: the labels have one class only, or a feature is not a finite number.
    """
    matrix = blocks.as_matrix(features)
    scaling = blocks.measure_scaling(matrix)
    loss, classes = _make_loss(matrix, labels, scaling)
    zero = loss.start()
    is_usable = start is not None and start.weights.shape == zero.weights.shape
    with blocks.full_precision():
        minimum = lbfgs.minimize(
            loss,
            spectrum or lbfgs.cholesky(loss),
            l2=l2,
            start=start if start is not None and is_usable else zero,
            tolerance=tolerance or loss.tolerance,
            iterations=iterations,
        )
    return Probe(l2, minimum.converged, minimum.coefficients, scaling, classes)


def sweep(
    features: np.ndarray | Matrix,
    labels: np.ndarray,
    *,
    validation: tuple[np.ndarray | Matrix, np.ndarray] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    metric: str = "top_1",
    description: str = "L-BFGS",
) -> tuple[Probe, dict[str, float]]:
    """Chooses the strength on validation data, then fits training and validation data together.

    Args:
      features: (n, d).
      labels: class indices (n,).
      validation: features and labels to choose on; None to hold out a tenth of the training set,
        stratified by class if possible.
      strengths: values of l2 to choose from. They are fitted from the strongest to the weakest,
        each warm-started from the previous fit, to SWEEP_TOLERANCE.
      metric: the entry of `metrics.accuracies` to choose by. The stronger regularization wins a
        tie.
      description: text of the progress bar.

    Returns:
      The probe, and how it was chosen: l2; validation, the best value of the metric; converged,
      whether the final fit converged; fits, the number of strengths; fits_converged, the number of
      these fits that converged.

    Raises:
      ValueError: the labels have one class only, or a feature is not a finite number.
    """
    matrix = blocks.as_matrix(features)
    if validation is None:
        train_rows, held_out_rows = _hold_out(labels)
        parts = (matrix.select(train_rows), labels[train_rows])
        held_out = (matrix.select(held_out_rows), labels[held_out_rows])
    else:
        parts, held_out = (matrix, labels), (blocks.as_matrix(validation[0]), validation[1])
        matrix = matrix.stack(held_out[0])
        labels = np.concatenate([labels, held_out[1]])
    with blocks.full_precision():
        best, spectrum, choice = _choose(parts, held_out, strengths, metric, description)
    probe = fit(matrix, labels, l2=choice["l2"], start=best.coefficients, spectrum=spectrum)
    return probe, choice | {"converged": probe.converged}


def _choose(
    train: tuple[Matrix, np.ndarray],
    held_out: tuple[Matrix, np.ndarray],
    strengths: Sequence[float],
    metric: str,
    description: str,
) -> tuple[Minimum, Spectrum, dict[str, float]]:
    """Fits every strength; returns the best fit, the features' spectrum, and how it was chosen."""
    scaling = blocks.measure_scaling(train[0])
    loss, classes = _make_loss(*train, scaling)
    held_out_features = _standardize(held_out[0], scaling, classes)
    spectrum, last = lbfgs.decompose(loss), loss.start()
    ordered = sorted(strengths, reverse=True)
    best, best_l2, best_value, num_converged = None, ordered[0], -1.0, 0
    with progress(ordered, total=len(ordered), desc=description, unit="fit") as bar:
        for l2 in bar:
            minimum = lbfgs.minimize(
                loss,
                spectrum,
                l2=l2,
                start=last,
                tolerance=SWEEP_TOLERANCE,
                iterations=MAX_ITERATIONS,
            )
            last = minimum.coefficients
            num_converged += minimum.converged
            ranks = _ranks(last, classes, held_out_features, held_out[1])
            value = metrics.accuracies(ranks, held_out[1])[metric]
            if best is None or value > best_value:
                best, best_l2, best_value = minimum, l2, value
            bar.set_postfix_str(f"best {100 * best_value:.2f}% at l2 {best_l2:.2g}")
    assert best is not None, "there is a strength"
    choice = {"l2": best_l2, "validation": best_value, "converged": best.converged}
    return best, spectrum, choice | {"fits": len(ordered), "fits_converged": num_converged}


def _make_loss(
    features: Matrix, labels: np.ndarray, scaling: Scaling
) -> tuple[SoftmaxLoss, np.ndarray]:
    """Returns the loss and the classes that occur, in rising order."""
    classes, targets = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"a classifier needs two classes, but all labels are {classes[0]}")
    return SoftmaxLoss(features, targets, len(classes), scaling), classes


def _standardize(features: Matrix, scaling: Scaling, classes: np.ndarray) -> Standardized:
    return Standardized(features, scaling, width=len(classes))


def _ranks(
    coefficients: Coefficients, classes: np.ndarray, features: Standardized, labels: np.ndarray
) -> np.ndarray:
    # The columns of the scores are the classes that occurred in training, sorted by index.
    columns = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
    columns = np.where(classes[columns] == labels, columns, len(classes))
    return np.concatenate(
        [
            metrics.ranks(coefficients.scores(block), columns[rows])
            for rows, block in features.blocks()
        ]
    )


def _hold_out(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Splits a training set into the indices to train on and the indices held out, both sorted."""
    _, counts = np.unique(labels, return_counts=True)
    # A class with a single example cannot be in both parts.
    can_stratify = counts.min() > 1 and len(counts) <= VALIDATION_SHARE * len(labels)
    train, held_out = train_test_split(
        np.arange(len(labels)),
        test_size=VALIDATION_SHARE,
        random_state=0,
        stratify=labels if can_stratify else None,
    )
    return np.sort(train), np.sort(held_out)
