"""Weighted nearest neighbours against a loop over all pairs."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from tf_simclr.probes import knn

RNG = np.random.default_rng(0)
TRAIN = RNG.normal(size=(60, 8)).astype(np.float32)
LABELS = RNG.integers(7, size=60)
TEST = RNG.normal(size=(23, 8)).astype(np.float32)


def by_hand(k: int, temperature: float) -> np.ndarray:
    """Votes (m, classes), one pair after the other."""
    votes = np.zeros((len(TEST), LABELS.max() + 1))
    for i, query in enumerate(TEST.astype(np.float64)):
        similar = [
            query @ x / np.linalg.norm(query) / np.linalg.norm(x) for x in TRAIN.astype(np.float64)
        ]
        for j in np.argsort(similar)[::-1][:k]:
            votes[i, LABELS[j]] += np.exp(similar[j] / temperature)
    return votes


@pytest.mark.parametrize("blocks", [False, True])
def test_votes_are_those_of_the_k_most_similar(blocks, monkeypatch):
    if blocks:  # memory for few at a time must not change anything
        monkeypatch.setattr(knn, "_TRAIN_BLOCK", 17)
        monkeypatch.setattr(knn, "_SIMILARITIES", 5 * 17)
    found = knn.classify(TRAIN, LABELS, TEST, counts=(1, 5, 20))
    for k in (1, 5, 20):
        votes = by_hand(k, 0.07)
        with_votes = (votes > 0).sum(1)
        order = np.argsort(-votes, axis=1)
        for row, count in enumerate(np.minimum(with_votes, 5)):
            np.testing.assert_array_equal(found[k][row, :count], order[row, :count])
        assert found[k].shape == (23, 5)


def test_the_temperature_weighs_the_votes():
    train = np.array([[1.0, 0.0], [0.8, 0.6], [0.8, -0.6]], np.float32)
    labels, query = np.array([0, 1, 1]), np.array([[2.0, 0.0]], np.float32)
    assert knn.classify(train, labels, query, counts=(3,))[3][0, 0] == 0
    assert knn.classify(train, labels, query, counts=(3,), temperature=10.0)[3][0, 0] == 1


def test_one_neighbour_is_scikit_learn_s():
    theirs = KNeighborsClassifier(1, metric="cosine").fit(TRAIN, LABELS).predict(TEST)
    np.testing.assert_array_equal(knn.classify(TRAIN, LABELS, TEST, counts=(1,))[1][:, 0], theirs)


def test_more_neighbours_than_there_are():
    found = knn.classify(TRAIN, LABELS, TEST, counts=(60, 200))
    np.testing.assert_array_equal(found[200], found[60])


def test_equal_votes_go_to_the_lower_class():
    train = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
    found = knn.classify(train, np.array([1, 0]), train, counts=(2,))
    assert found[2][:, 0].tolist() == [0, 0]
