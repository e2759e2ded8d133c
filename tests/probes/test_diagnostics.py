"""Each figure against loops that follow the formula word by word."""

import math

import numpy as np
import pytest

from tf_simclr.probes import diagnostics

RNG = np.random.default_rng(0)
N, D = 23, 6
Z1 = RNG.normal(size=(N, D)).astype(np.float32)
Z2 = (Z1 + 0.7 * RNG.normal(size=(N, D))).astype(np.float32)


def unit(row) -> list[float]:
    length = math.sqrt(sum(float(x) ** 2 for x in row))
    return [float(x) / length for x in row]


def dot(x, y) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True))


def squared_distance(x, y) -> float:
    return sum((a - b) ** 2 for a, b in zip(x, y, strict=True))


U1, U2 = [unit(row) for row in Z1], [unit(row) for row in Z2]


@pytest.fixture(params=[2**22, 50], ids=["in one block", "in blocks of 2 rows"])
def blocks(request, monkeypatch):
    monkeypatch.setattr(diagnostics, "_SIMILARITIES", request.param)


def test_alignment():
    expected = sum(squared_distance(x, y) for x, y in zip(U1, U2, strict=True)) / N
    assert diagnostics.alignment(Z1, Z2) == pytest.approx(expected, rel=1e-12)
    assert diagnostics.alignment(Z1, 3 * Z1) == pytest.approx(0, abs=1e-12)
    assert diagnostics.alignment(Z1, -Z1) == pytest.approx(4)


def test_uniformity_compares_pairs_of_different_images(blocks):
    pairs = [math.exp(-2 * squared_distance(U1[i], U1[j])) for j in range(N) for i in range(j)]
    expected = math.log(sum(pairs) / len(pairs))
    assert diagnostics.uniformity(Z1) == pytest.approx(expected, rel=1e-12)
    assert diagnostics.uniformity(np.ones((5, 3))) == pytest.approx(0, abs=1e-12)
    opposite = np.array([[1.0, 0], [-2, 0]])
    assert diagnostics.uniformity(opposite) == pytest.approx(-8)


def test_uniformity_of_an_even_sphere_is_about_minus_4():
    assert diagnostics.uniformity(RNG.normal(size=(1000, 256))) == pytest.approx(-4, abs=0.05)


def test_positive_similarity():
    expected = sum(dot(x, y) for x, y in zip(U1, U2, strict=True)) / N
    assert diagnostics.positive_similarity(Z1, Z2) == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx(1 - diagnostics.alignment(Z1, Z2) / 2)


def test_negative_similarity_is_of_all_views_of_other_images():
    views = [(i, x) for rows in (U1, U2) for i, x in enumerate(rows)]
    pairs = [dot(x, y) for i, x in views for j, y in views if i != j]
    assert len(pairs) == 4 * N * (N - 1)
    expected = sum(pairs) / len(pairs)
    assert diagnostics.negative_similarity(Z1, Z2) == pytest.approx(expected, rel=1e-9)


def test_embedding_std():
    deviations = []
    for column in zip(*U1, strict=True):
        mean = sum(column) / N
        deviations.append(math.sqrt(sum((x - mean) ** 2 for x in column) / N))
    expected = math.sqrt(D) * sum(deviations) / D
    assert diagnostics.embedding_std(Z1) == pytest.approx(expected, rel=1e-12)
    assert diagnostics.embedding_std(np.ones((9, 3))) == pytest.approx(0, abs=1e-12)
    assert diagnostics.embedding_std(RNG.normal(size=(4000, 64))) == pytest.approx(1, abs=0.01)


def test_projections_of_length_0_are_not_divided_by_0():
    zeros = np.zeros((4, 3))
    assert diagnostics.embedding_std(zeros) == 0
    assert diagnostics.uniformity(zeros) == pytest.approx(math.log(math.exp(-4)))
    assert diagnostics.negative_similarity(zeros, zeros) == 0


def test_singular_values_are_roots_of_the_eigenvalues_of_the_gram_matrix():
    expected = np.sqrt(np.linalg.eigvalsh(Z1.astype(np.float64).T @ Z1.astype(np.float64)))[::-1]
    np.testing.assert_allclose(diagnostics.singular_values(Z1), expected, rtol=1e-9)
    assert diagnostics.singular_values(Z1[:4]).shape == (4,)


def test_rankme_is_equation_1_of_the_paper():
    values = [5.0, 2.0, 1.0, 0.0]
    p = [value / sum(values) + 1e-7 for value in values]
    expected = math.exp(-sum(x * math.log(x) for x in p))
    assert diagnostics.rankme(np.array(values)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_rankme_of_equal_singular_values_is_their_number(rank):
    basis = np.linalg.qr(RNG.normal(size=(N, D)))[0]
    values = diagnostics.singular_values(basis[:, :rank] @ np.eye(rank, D))
    assert diagnostics.rankme(values) == pytest.approx(rank, rel=1e-4)


def test_rankme_of_nothing_but_zeros_is_finite():
    assert math.isfinite(diagnostics.rankme(np.zeros(4)))


@pytest.mark.parametrize("count", [9, 60])
def test_knn_leaves_each_image_out(blocks, count):
    """With fewer than 21 images all others vote."""
    labels = RNG.integers(3, size=count) * 5  # indices with gaps
    features = RNG.normal(size=(count, 4)) + 0.5 * np.eye(3)[labels // 5] @ RNG.normal(size=(3, 4))
    rows = [unit(row) for row in features]
    hits = 0
    for i in range(count):
        others = sorted(
            ((dot(rows[i], rows[j]), labels[j]) for j in range(count) if j != i), reverse=True
        )
        votes = dict.fromkeys(labels, 0.0)
        for similarity, label in others[:20]:
            votes[label] += math.exp(similarity / 0.07)
        hits += max(votes, key=votes.get) == labels[i]
    assert 0 < hits < count
    assert diagnostics.knn_top_1(features, labels) == hits / count


def test_knn_of_clusters():
    labels = np.repeat([0, 1], 30)
    features = np.eye(2)[labels] + 0.01 * RNG.normal(size=(60, 2))
    assert diagnostics.knn_top_1(features, labels) == 1
    assert diagnostics.knn_top_1(np.eye(2), np.array([0, 1])) == 0, "nobody votes for itself"
