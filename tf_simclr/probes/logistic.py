"""Multinomial logistic regression on frozen features by L-BFGS (SimCLR paper, appendix B.8).

The loss is the sum of the cross-entropies plus l2 / 2 times the squared norm of the weights,
excluding the bias, as in scikit-learn's LogisticRegression with C = 1 / l2. Features are
standardized by the mean and standard deviation of the training set, which the paper does not
mention. Otherwise the same l2 would have a different effect for each encoder, and L-BFGS would take
many times as long.
"""

import copy
import dataclasses
import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from tf_simclr.console import progress
from tf_simclr.probes import metrics

STRENGTHS = tuple(np.logspace(-6, 5, 45).tolist())
MAX_ITERATIONS = 300  # iterations of L-BFGS
SWEEP_ITERATIONS = 30  # at each strength of a sweep, warm-started from the previous fit
VALIDATION_SHARE = 0.1


@dataclasses.dataclass
class Probe:
    """A fitted classifier.

    Attributes:
      l2: the strength of its regularization.
      converged: whether L-BFGS converged within the allowed iterations.
    """

    l2: float
    converged: bool
    _scaler: StandardScaler
    _model: LogisticRegression

    def ranks(self, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns the ranks (n,) of the correct classes (`metrics.ranks`) for features (n, d)."""
        blocks = [slice(start, start + 10_000) for start in range(0, len(features), 10_000)]
        return np.concatenate(
            [_ranks(self._model, self._scaler.transform(features[b]), labels[b]) for b in blocks]
        )


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    l2: float = 1.0,
    iterations: int = MAX_ITERATIONS,
    start: LogisticRegression | None = None,
) -> Probe:
    """Fits a classifier at one strength.

    Args:
      features: (n, d).
      labels: class indices (n,).
      l2: the strength of the regularization.
      iterations: limit for L-BFGS. A fit that has not converged by then is still used.
      start: a model to start from. It is ignored if its classes differ from the labels' classes.
    """
    scaler = StandardScaler().fit(features)
    model = LogisticRegression(C=1.0 / l2, max_iter=iterations, warm_start=True)
    if start is not None and np.array_equal(start.classes_, np.unique(labels)):
        model.coef_, model.intercept_ = start.coef_, start.intercept_
    return Probe(l2, _fit(model, scaler.transform(features), labels), scaler, model)


def sweep(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
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
        each warm-started from the previous fit.
      metric: the entry of `metrics.accuracies` to choose by. The stronger regularization wins a
        tie.
      description: text of the progress bar.

    Returns:
      The probe, and how it was chosen: l2; validation, the best value of the metric; converged,
      whether the final fit converged; fits, the number of strengths; fits_converged, the number of
      these fits that converged.
    """
    if validation is None:
        train, train_labels, held_out, held_out_labels = _hold_out(features, labels)
    else:
        train, train_labels, (held_out, held_out_labels) = features, labels, validation
    scaler = StandardScaler().fit(train)
    train, held_out = scaler.transform(train), scaler.transform(held_out)
    model = LogisticRegression(max_iter=SWEEP_ITERATIONS, warm_start=True)
    ordered = sorted(strengths, reverse=True)
    best_l2, best_value, best_model, num_converged = ordered[0], -1.0, None, 0
    with progress(ordered, total=len(ordered), desc=description, unit="fit") as bar:
        for l2 in bar:
            model.set_params(C=1.0 / l2)
            num_converged += _fit(model, train, train_labels)
            ranks = _ranks(model, held_out, held_out_labels)
            value = metrics.accuracies(ranks, held_out_labels)[metric]
            if value > best_value:
                best_l2, best_value, best_model = l2, value, copy.deepcopy(model)
            bar.set_postfix_str(f"best {100 * best_value:.2f}% at l2 {best_l2:.2g}")
    if validation is not None:
        features = np.concatenate([features, validation[0]])
        labels = np.concatenate([labels, validation[1]])
    probe = fit(features, labels, l2=best_l2, start=best_model)
    return probe, {
        "l2": best_l2,
        "validation": best_value,
        "converged": probe.converged,
        "fits": len(strengths),
        "fits_converged": num_converged,
    }


def _ranks(model: LogisticRegression, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    scores = model.decision_function(features)
    if scores.ndim == 1:  # there are two classes
        scores = np.stack([-scores, scores], axis=1)
    # The columns of the scores are the classes that occurred in training, sorted by index.
    columns = np.searchsorted(model.classes_, labels).clip(max=len(model.classes_) - 1)
    known = model.classes_[columns] == labels
    return metrics.ranks(scores, np.where(known, columns, len(model.classes_)))


def _fit(model: LogisticRegression, features: np.ndarray, labels: np.ndarray) -> bool:
    """Fits a model in place and returns whether it converged. It is usable in either case."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(features, labels)
    return not any(issubclass(w.category, ConvergenceWarning) for w in caught)


def _hold_out(
    features: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Splits a training set into (features, labels, held-out features, held-out labels)."""
    _, counts = np.unique(labels, return_counts=True)
    # A class with a single example cannot be in both parts.
    can_stratify = counts.min() > 1 and len(counts) <= VALIDATION_SHARE * len(labels)
    train, held_out, train_labels, held_out_labels = train_test_split(
        features,
        labels,
        test_size=VALIDATION_SHARE,
        random_state=0,
        stratify=labels if can_stratify else None,
    )
    return train, train_labels, held_out, held_out_labels
