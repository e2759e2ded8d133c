"""Accuracies of ranked classes against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from tf_simclr import ranks
from tf_simclr.probes import metrics

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(200, 9))
LABELS = np.concatenate([np.arange(9), RNG.choice(9, size=191, p=[0.4] + [0.075] * 8)])


def test_accuracies_are_scikit_learn_s():
    result = metrics.accuracies(metrics.ranks(SCORES, LABELS), LABELS)
    assert result == pytest.approx(
        {
            "top_1": np.mean(SCORES.argmax(1) == LABELS),
            "top_5": top_k_accuracy_score(LABELS, SCORES, k=5),
            "mean_per_class": balanced_accuracy_score(LABELS, SCORES.argmax(1)),
        }
    )
    assert len(set(result.values())) == 3


def test_few_classes():
    """Of fewer than five classes top-5 is 100% whatever the classifier says."""
    result = metrics.accuracies(metrics.ranks(SCORES[:, :4], LABELS % 4), LABELS % 4, num_classes=4)
    assert result.keys() == {"top_1", "mean_per_class"} and 0 < result["top_1"] < 1
    result = metrics.accuracies(metrics.ranks(SCORES[:, :5], LABELS % 5), LABELS, num_classes=5)
    assert "top_5" in result


SCORES_WITH_TIES = np.array(
    [
        [5, 1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
        [3, 2, 1, 1, 1, 1, 0],
        [0, np.nan, 0, 0, 0, 0, 0],
    ],
    np.float32,
)
RANKS = {0: [0, 1, 6, 0, 6], 1: [2, 1, 6, 1, 6], 2: [2, 6, 6, 5, 6]}


@pytest.mark.parametrize("label", RANKS)
def test_the_right_class_is_the_worst_among_equals(label):
    labels = np.full(5, label)
    assert metrics.ranks(SCORES_WITH_TIES, labels).tolist() == RANKS[label]
    assert ranks.rank(SCORES_WITH_TIES, labels).numpy().tolist() == RANKS[label]


def test_a_class_without_a_score_is_never_right():
    result = metrics.ranks(SCORES[:2, :3], np.array([3, 1]))
    assert result[0] == metrics.NEVER > 5 > result[1]


@pytest.mark.parametrize(
    "dataset, metric",
    [
        ("cifar10", "top_1"),
        ("imagenet2012_subset/1pct", "top_1"),
        ("oxford_iiit_pet", "mean_per_class"),
        ("caltech101:3.0.1", "mean_per_class"),
        ("oxford_flowers102", "mean_per_class"),
    ],
)
def test_what_a_data_set_is_judged_by(dataset, metric):
    assert metrics.metric_for(dataset) == metric
