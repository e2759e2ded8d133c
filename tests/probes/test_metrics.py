"""Accuracies of ranked classes against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from tf_simclr.probes import metrics

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(200, 9))
LABELS = np.concatenate([np.arange(9), RNG.choice(9, size=191, p=[0.4] + [0.075] * 8)])


def test_accuracies_are_scikit_learn_s():
    found = metrics.accuracies(metrics.ranking(SCORES), LABELS)
    assert found == pytest.approx({
        "top_1": np.mean(SCORES.argmax(1) == LABELS),
        "top_5": top_k_accuracy_score(LABELS, SCORES, k=5),
        "mean_per_class": balanced_accuracy_score(LABELS, SCORES.argmax(1)),
    })  # fmt: skip
    assert len(set(found.values())) == 3


def test_few_classes():
    found = metrics.accuracies(metrics.ranking(SCORES[:, :3]), LABELS % 3)
    assert found["top_5"] == 1 and metrics.ranking(SCORES[:, :3]).shape == (200, 3)


def test_equal_scores_rank_the_lower_class_first():
    assert metrics.ranking(np.zeros((1, 7))).tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("dataset, metric", [
    ("cifar10", "top_1"), ("imagenet2012_subset/1pct", "top_1"),
    ("oxford_iiit_pet", "mean_per_class"), ("caltech101:3.0.1", "mean_per_class"),
    ("oxford_flowers102", "mean_per_class"),
])  # fmt: skip
def test_what_a_data_set_is_judged_by(dataset, metric):
    assert metrics.metric_of(dataset) == metric
