"""Counts how often a classifier confuses one class with another."""

from collections.abc import Sequence

import numpy as np

from tf_simclr.probes import knn
from tf_simclr.report.content import Confusion

NEIGHBORS = 20


def count(
    labels: np.ndarray, predictions: np.ndarray, class_names: Sequence[str], *, classifier: str
) -> Confusion:
    """Counts the pairs of a true and a predicted class.

    Args:
      labels: class indices (n,).
      predictions: class indices (n,).
      class_names: names of all classes.
      classifier: name of the classifier.

    Returns:
      The Confusion, with counts of all classes.
    """
    counts = np.zeros((len(class_names), len(class_names)), np.int64)
    np.add.at(counts, (labels, predictions), 1)
    return Confusion(classifier, tuple(class_names), counts)


def by_vote(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    class_names: Sequence[str],
    *,
    itself: np.ndarray | None = None,
) -> Confusion:
    """Counts the confusions of a vote of the 20 nearest neighbors (`knn.predict`).

    Args:
      train: training features (n, d).
      train_labels: their class indices (n,).
      test: test features (m, d).
      test_labels: their class indices (m,).
      class_names: names of all classes.
      itself: index of each test image among the training images, or -1 (`knn.predict`).
    """
    predictions = knn.predict(train, train_labels, test, count=NEIGHBORS, itself=itself)
    num_votes = min(NEIGHBORS, len(train) - (itself is not None))
    return count(test_labels, predictions, class_names, classifier=f"{num_votes} nearest neighbors")
