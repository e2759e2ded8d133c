"""Weighted nearest neighbors against a loop over all pairs."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from tf_simclr.probes import blocks, knn, metrics
from tf_simclr.probes.blocks import Matrix

RNG = np.random.default_rng(0)
TRAIN = RNG.normal(size=(60, 8)).astype(np.float32)
LABELS = RNG.integers(7, size=60)
TEST = RNG.normal(size=(23, 8)).astype(np.float32)
TEST_LABELS = RNG.integers(7, size=23)


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
    result = knn.classify(TRAIN, LABELS, TEST, TEST_LABELS, counts=(1, 5, 20))
    for k in (1, 5, 20):
        expected = metrics.ranks(by_hand(k, 0.07), TEST_LABELS)
        np.testing.assert_array_equal(result[k], expected)
        assert 0 < np.mean(result[k] == 0) < 1


@pytest.mark.parametrize("block, similarities, group", [(60, 2**25, 100), (7, 7 * 5, 9), (1, 1, 1)])
def test_a_memory_map_in_blocks_has_the_same_neighbors(
    tmp_path, monkeypatch, block, similarities, group
):
    np.save(tmp_path / "train.npy", TRAIN.astype(np.float16))
    mapped = np.load(tmp_path / "train.npy", mmap_mode="r")
    expected = knn.nearest(np.float32(mapped), TEST, 20)
    monkeypatch.setattr(knn, "_TRAIN_BLOCK", block)
    monkeypatch.setattr(knn, "_SIMILARITIES", similarities)
    monkeypatch.setattr(blocks, "MEMORY_BYTES", 4 * 8 * group)
    similarities, neighbors = knn.nearest(Matrix(mapped), Matrix(TEST), 20)
    np.testing.assert_array_equal(neighbors, expected[1])
    np.testing.assert_allclose(similarities, expected[0], rtol=1e-5)


def test_of_equal_similarities_the_lower_index_comes_first(monkeypatch):
    monkeypatch.setattr(knn, "_TRAIN_BLOCK", 3)
    same = np.ones((11, 4), np.float32)
    _, neighbors = knn.nearest(same, same[:2], 7)
    np.testing.assert_array_equal(neighbors, [np.arange(7)] * 2)


def test_the_temperature_weighs_the_votes():
    train = np.array([[1.0, 0.0], [0.8, 0.6], [0.8, -0.6]], np.float32)
    labels, query = np.array([0, 1, 1]), np.array([[2.0, 0.0]], np.float32)
    zero = np.array([0])
    assert knn.classify(train, labels, query, zero, counts=(3,))[3] == 0
    assert knn.classify(train, labels, query, zero, counts=(3,), temperature=10.0)[3] == 1


def test_one_neighbor_is_scikit_learn_s():
    theirs = KNeighborsClassifier(1, metric="cosine").fit(TRAIN, LABELS).predict(TEST)
    assert (knn.classify(TRAIN, LABELS, TEST, theirs, counts=(1,))[1] == 0).all()
    others = (theirs + 1) % 7
    assert not (knn.classify(TRAIN, LABELS, TEST, others, counts=(1,))[1] == 0).any()


def test_more_neighbors_than_there_are():
    result = knn.classify(TRAIN, LABELS, TEST, TEST_LABELS, counts=(60, 200))
    np.testing.assert_array_equal(result[200], result[60])


def test_equal_votes_are_right_about_neither():
    train = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
    result = knn.classify(train, np.array([1, 0]), train, np.array([0, 1]), counts=(2,))
    assert result[2].tolist() == [1, 1]


def test_classes_without_votes_are_in_no_top_5():
    """Of seven classes one has all the votes; the six others tie."""
    train = np.tile(np.float32([[1.0, 0.0]]), (3, 1))
    result = knn.classify(train, np.array([6, 6, 6]), train, np.array([6, 0, 5]), counts=(3,))
    assert result[3].tolist() == [0, 6, 6]


def test_a_class_that_was_never_seen_is_no_hit():
    result = knn.classify(TRAIN[:3], np.zeros(3, int), TEST[:1], np.array([4]), counts=(3,))
    assert result[3][0] > 5
