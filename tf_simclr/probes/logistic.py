"""Multinomial logistic regression on frozen features by L-BFGS (SimCLR paper, appendix B.8).

Minimises the sum of the cross-entropies plus l2 / 2 times the squared norm of the weights, the bias
left out: scikit-learn's LogisticRegression with C = 1 / l2. Features are standardised by the
training set's mean and deviation, which the paper does not mention; without, one strength means
something else for each encoder, and L-BFGS takes many times as long.
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
MAX_ITERATIONS = 300  # of L-BFGS
SWEEP_ITERATIONS = 30  # at each strength of a sweep, from where the one before ended
VALIDATION_SHARE = 0.1


@dataclasses.dataclass
class Probe:
    """A fitted classifier.

    Attributes:
      l2: its strength.
      converged: whether L-BFGS came to an end before its last iteration.
    """

    l2: float
    converged: bool
    _scaler: StandardScaler
    _model: LogisticRegression

    def ranks(self, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Ranks of the right classes (n,) of features (n, d), as `metrics.ranks` has them."""
        parts = [slice(start, start + 10_000) for start in range(0, len(features), 10_000)]
        return np.concatenate(
            [_ranks(self._model, self._scaler.transform(features[p]), labels[p]) for p in parts]
        )


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    l2: float = 1.0,
    iterations: int = MAX_ITERATIONS,
    start: LogisticRegression | None = None,
) -> Probe:
    """Fits features (n, d) and class numbers (n,) at one strength.

    Args:
      iterations: of L-BFGS at most; what is still improving then counts as it is.
      start: a model of the same classes to start from.
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
) -> tuple[Probe, dict]:
    """Chooses the strength on a validation part, then fits training and validation part together.

    Args:
      features: (n, d).
      labels: (n,) class numbers.
      validation: features and labels to choose on; None holds a tenth of the training set out, of
        every class.
      strengths: to choose from. They are gone through from the strongest to the weakest, each
        starting where the one before ended.
      metric: to choose by, of `metrics.accuracies`; of equals the strongest regularisation.
      description: of the progress bar.

    Returns:
      The probe, and what happened: l2; validation, the best value of the metric; converged, whether
      L-BFGS came to an end in the final fit; fits, the number of strengths, and fits_converged, for
      how many of them it did.
    """
    if validation is None:
        rest, labels_of_rest, *held_out = _hold_out(features, labels)
    else:
        rest, labels_of_rest, held_out = features, labels, validation
    scaler = StandardScaler().fit(rest)
    rest, checked = scaler.transform(rest), scaler.transform(held_out[0])
    model = LogisticRegression(max_iter=SWEEP_ITERATIONS, warm_start=True)
    best_l2, best, best_model, converged = None, -1.0, None, 0
    ordered = sorted(strengths, reverse=True)
    with progress(ordered, total=len(ordered), desc=description, unit="fit") as bar:
        for l2 in bar:
            model.set_params(C=1.0 / l2)
            converged += _fit(model, rest, labels_of_rest)
            ranks = _ranks(model, checked, held_out[1])
            found = metrics.accuracies(ranks, held_out[1])[metric]
            if found > best:
                best_l2, best, best_model = l2, found, copy.deepcopy(model)
            bar.set_postfix_str(f"best {100 * best:.2f}% at l2 {best_l2:.2g}")
    everything = np.concatenate([features, validation[0]]) if validation else features
    all_labels = np.concatenate([labels, validation[1]]) if validation else labels
    probe = fit(everything, all_labels, l2=best_l2, start=best_model)
    return probe, {
        "l2": best_l2,
        "validation": best,
        "converged": probe.converged,
        "fits": len(strengths),
        "fits_converged": converged,
    }


def _ranks(model: LogisticRegression, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    scores = model.decision_function(features)
    if scores.ndim == 1:  # of two classes
        scores = np.stack([-scores, scores], axis=1)
    places = np.searchsorted(model.classes_, labels).clip(max=len(model.classes_) - 1)
    known = model.classes_[places] == labels
    return metrics.ranks(scores, np.where(known, places, len(model.classes_)))


def _fit(model: LogisticRegression, features: np.ndarray, labels: np.ndarray) -> bool:
    """Whether it converged: one that is still improving counts as it is."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(features, labels)
    return not any(issubclass(w.category, ConvergenceWarning) for w in caught)


def _hold_out(features: np.ndarray, labels: np.ndarray):
    """Features of the rest, their labels; features held out, their labels."""
    _, counts = np.unique(labels, return_counts=True)
    # A class of one example cannot be divided.
    divisible = counts.min() > 1 and len(counts) <= VALIDATION_SHARE * len(labels)
    rest, held_out, labels_of_rest, labels_held_out = train_test_split(
        features,
        labels,
        test_size=VALIDATION_SHARE,
        random_state=0,
        stratify=labels if divisible else None,
    )
    return rest, labels_of_rest, held_out, labels_held_out
