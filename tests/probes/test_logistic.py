"""Logistic regression: against scikit-learn and its definition, and the choice of its strength."""

import numpy as np
import pytest
from scipy import special
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from tf_simclr.probes import logistic, metrics


def blobs(spread: float, n=200, seed=0):
    """(features, labels) of four classes at the corners of a square."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=n)
    centers = np.array([[0, 0], [0, 10], [10, 0], [10, 10]])[labels]
    return (centers + spread * rng.normal(size=(n, 2))).astype(np.float32), labels


def accuracy(probe, features, labels) -> float:
    return metrics.accuracies(probe.ranks(features, labels), labels)["top_1"]


def test_separable_classes_are_separated_and_noise_is_at_chance():
    assert accuracy(logistic.fit(*blobs(1.0)), *blobs(1.0, seed=1)) > 0.98
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(1000, 5)), rng.integers(4, size=1000)
    others = rng.normal(size=(1000, 5)), rng.integers(4, size=1000)
    assert 0.18 < accuracy(logistic.fit(*noise), *others) < 0.32


def test_features_are_standardised_by_the_training_set():
    """A huge constant and tiny units change nothing."""
    (train_x, train_y), (test_x, test_y) = blobs(2.5), blobs(2.5, seed=1)
    expected = logistic.fit(train_x, train_y).ranks(test_x, test_y)
    scaled = logistic.fit(train_x * 1e-2 + 5, train_y).ranks(test_x * 1e-2 + 5, test_y)
    assert np.mean(scaled == expected) > 0.99


@pytest.mark.parametrize("l2", [0.01, 1.0, 100.0])
def test_the_strength_is_that_of_the_definition(l2):
    """The minimum of the sum of cross-entropies + l2 / 2 |W|^2, found by another optimizer."""
    x, labels = blobs(4.0, n=120)
    x = ((x - x.mean(0)) / x.std(0)).astype(np.float64)
    onehot = np.eye(4)[labels]

    def objective(flat):
        w, b = flat[:8].reshape(2, 4), flat[8:]
        logits = x @ w + b
        shifted = logits - logits.max(1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        return -(onehot * log_p).sum() + l2 / 2 * (w**2).sum()

    best = minimize(objective, np.zeros(12), method="BFGS").x
    logits = x @ best[:8].reshape(2, 4) + best[8:]
    probe = logistic.fit(x, labels, l2=l2, iterations=1000)
    result = special.softmax(probe.coefficients.scores(probe.scaling.apply(x)), axis=1)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(result, expected, atol=2e-3)
    assert probe.converged


def test_it_is_as_accurate_as_scikit_learn_at_each_strength():
    """Within 0.3 points, though a sweep in float32 starts each fit where another ended."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(10, 32))

    def draw(n):
        labels = rng.integers(10, size=n)
        return (centers[labels] + 1.5 * rng.normal(size=(n, 32))).astype(np.float32), labels

    train, valid, test = draw(1000), draw(500), draw(2000)
    for l2 in (1e-3, 1.0, 1e3):
        probe, chosen = logistic.sweep(*train, validation=valid, strengths=[l2])
        assert (chosen["l2"], chosen["fits"]) == (l2, 1)
        everything = [
            np.concatenate(pair).astype(np.float64) for pair in zip(train, valid, strict=True)
        ]
        mean, deviation = everything[0].mean(0), everything[0].std(0)
        theirs = LogisticRegression(C=1 / l2, max_iter=5000, tol=1e-8).fit(
            (everything[0] - mean) / deviation, everything[1]
        )
        expected = theirs.score((test[0] - mean) / deviation, test[1])
        assert accuracy(probe, *test) == pytest.approx(expected, abs=0.003)
        assert 0.3 < expected < 0.99


def test_the_sweep_chooses_what_is_best_on_the_validation_part():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=60)
    # A weak signal in two of sixty columns: weak regularisation learns the noise by heart.
    x = rng.normal(size=(60, 60)).astype(np.float32)
    x[:, 0] += 2 * (labels == 1)
    x[:, 1] += 2 * (labels == 2)
    more = rng.integers(3, size=2000)
    valid = rng.normal(size=(2000, 60)).astype(np.float32)
    valid[:, 0] += 2 * (more == 1)
    valid[:, 1] += 2 * (more == 2)
    strengths = (1e-4, 1.0, 30.0, 1e5)
    alone = {
        l2: logistic.sweep(x, labels, validation=(valid, more), strengths=[l2])[1]["validation"]
        for l2 in strengths
    }
    _, chosen = logistic.sweep(x, labels, validation=(valid, more), strengths=strengths)
    assert chosen["l2"] == max(alone, key=alone.get) in (1.0, 30.0)
    assert chosen["validation"] == pytest.approx(max(alone.values()), abs=0.003)
    assert chosen["fits"] == 4 and chosen["fits_converged"] <= 4 and chosen["converged"]


def test_the_final_fit_sees_the_validation_part_too():
    x, labels = blobs(1.0)
    known, unknown = labels < 3, labels == 3
    probe, _ = logistic.sweep(
        x[known], labels[known], validation=(x[unknown], labels[unknown]), strengths=[1.0]
    )
    assert accuracy(probe, x[unknown], labels[unknown]) > 0.98


def test_without_a_validation_part_a_tenth_of_every_class_is_held_out():
    _, labels = blobs(1.0, n=400)
    rest, held_out = logistic._hold_out(labels)
    assert len(held_out) == 40
    np.testing.assert_array_equal(np.sort(np.concatenate([rest, held_out])), np.arange(400))
    everything, tenth = np.bincount(labels), np.bincount(labels[held_out])
    np.testing.assert_allclose(tenth, everything / 10, atol=1)
    few = np.arange(30) % 29  # classes of one example
    assert len(logistic._hold_out(few)[1]) == 3


def test_the_paper_s_strengths():
    """Appendix B.8: 45 logarithmically spaced values between 1e-6 and 1e5."""
    assert len(logistic.STRENGTHS) == 45
    assert (min(logistic.STRENGTHS), max(logistic.STRENGTHS)) == pytest.approx((1e-6, 1e5))
    np.testing.assert_allclose(np.diff(np.log10(logistic.STRENGTHS)), 0.25)


def test_two_classes_have_ranks_too():
    x, labels = blobs(1.0)
    probe = logistic.fit(x, labels % 2)
    assert np.mean(probe.ranks(x, labels % 2) == 0) > 0.9
    np.testing.assert_array_equal(probe.ranks(x, 1 - labels % 2), 1 - probe.ranks(x, labels % 2))


def test_classes_keep_their_numbers_where_some_do_not_occur():
    x, labels = blobs(1.0)
    probe = logistic.fit(x, 10 * labels + 7)
    assert np.mean(probe.ranks(x, 10 * labels + 7) == 0) > 0.98
    assert (probe.ranks(x, 10 * labels + 8) == metrics.NEVER).all()


def test_a_probe_of_constant_features_is_right_about_one_class_at_most():
    """A collapsed encoder: of equally many examples no class is the first."""
    labels = np.arange(40) % 4
    result = metrics.accuracies(
        logistic.fit(np.ones((40, 3)), labels).ranks(np.ones((40, 3)), labels), labels
    )
    assert result["top_1"] <= 0.25
