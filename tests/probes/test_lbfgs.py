"""The minimum of logistic regression is scikit-learn's, however the features are read."""

import numpy as np
import pytest
from scipy import special
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tf_simclr.probes import blocks, lbfgs, logistic, softmax_loss
from tf_simclr.probes.blocks import Matrix
from tf_simclr.probes.softmax_loss import Coefficients, SoftmaxLoss


def draw(classes: int, n=400, d=12, seed=0):
    """(features, labels) of overlapping classes with correlated features."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(classes, size=n - classes)])
    mixing = rng.normal(size=(d, d))
    x = rng.normal(size=(classes, d))[labels] + 1.5 * rng.normal(size=(n, d))
    return (x @ mixing).astype(np.float32), labels


def theirs(features: np.ndarray, labels: np.ndarray, l2: float):
    """scikit-learn's model in float64, run to the end, and the standardized features."""
    x = StandardScaler().fit_transform(features.astype(np.float64))
    return LogisticRegression(C=1 / l2, tol=1e-10, max_iter=20_000).fit(x, labels), x


def probabilities(probe: logistic.Probe, features) -> np.ndarray:
    [(_, block)] = blocks.as_matrix(features).blocks()
    return special.softmax(probe.coefficients.scores(probe.scaling.apply(block)), axis=1)


def assert_same(probe: logistic.Probe, features, labels, l2: float, atol=1e-4):
    [(_, block)] = blocks.as_matrix(features).blocks()
    model, x = theirs(block, labels, l2)
    assert probe.converged
    np.testing.assert_array_equal(probe.classes, model.classes_)
    np.testing.assert_allclose(probabilities(probe, features), model.predict_proba(x), atol=atol)
    np.testing.assert_allclose(probe.coefficients.weights, model.coef_, atol=atol)


@pytest.mark.parametrize("l2", [1.0, 100.0])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_minimum_is_scikit_learn_s(classes, l2):
    features, labels = draw(classes)
    assert_same(logistic.fit(features, labels, l2=l2), features, labels, l2)


def test_weak_regularization_has_the_same_minimum():
    """The weights hardly matter for the loss; the probabilities do."""
    features, labels = draw(4)
    probe = logistic.fit(features, labels, l2=1e-3, iterations=2000)
    model, x = theirs(features, labels, 1e-3)
    np.testing.assert_allclose(probabilities(probe, features), model.predict_proba(x), atol=1e-4)


def test_classes_that_do_not_occur_have_no_weights():
    features, labels = draw(4)
    labels = 5 * labels + 3
    probe = logistic.fit(features, labels)
    assert probe.classes.tolist() == [3, 8, 13, 18]
    assert_same(probe, features, labels, 1.0)


@pytest.mark.parametrize("dtype", [np.float16, np.uint8, np.float32])
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("in_memory", [True, False])
def test_memory_maps_in_several_blocks(tmp_path, monkeypatch, dtype, classes, in_memory):
    features, labels = draw(classes)
    if dtype == np.uint8:
        features = np.clip(128 + 10 * features, 0, 255).reshape(len(features), 2, 2, 3)
    np.save(tmp_path / "features.npy", features.astype(dtype))
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    whole = Matrix(np.array(mapped))
    # A second map, in which all examples come again.
    twice = Matrix(mapped).stack(Matrix(mapped))
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", 4 * 12 * 70)
        if not in_memory:
            patch.setattr(blocks, "MEMORY_BYTES", 0)
        probe = logistic.fit(twice, np.tile(labels, 2), l2=10.0)
    assert_same(probe, whole, labels, 5.0)  # half of l2 for half of the examples


@pytest.mark.parametrize("classes", [2, 6])
def test_single_precision_comes_close(monkeypatch, classes):
    """Large features are multiplied in float32."""
    monkeypatch.setattr(softmax_loss, "_DOUBLE_BYTES", 0)
    features, labels = draw(classes, n=3000)
    probe = logistic.fit(features, labels, l2=1.0)
    model, x = theirs(features, labels, 1.0)
    assert probe.converged
    np.testing.assert_allclose(probabilities(probe, features), model.predict_proba(x), atol=1e-3)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_gradient_is_that_of_the_loss(classes):
    features, labels = draw(classes, n=50, d=4)
    matrix = Matrix(features)
    loss = SoftmaxLoss(matrix, labels, classes, blocks.measure_scaling(matrix))
    rng = np.random.default_rng(1)
    rows = 1 if classes == 2 else classes
    at = Coefficients(rng.normal(size=(rows, 4)), rng.normal(size=rows))
    sums, step = loss.sums(at), 1e-6
    for part, gradient in (("weights", sums.weights), ("bias", sums.bias)):
        for index in np.ndindex(gradient.shape):
            values = []
            for sign in (1, -1):
                moved = getattr(at, part).copy()
                moved[index] += sign * step
                values.append(loss.sums(at._replace(**{part: moved})).loss)
            expected = (values[0] - values[1]) / (2 * step)
            assert gradient[index] == pytest.approx(expected, abs=1e-5)


def test_the_basis_changes_nothing_but_the_passes():
    features, labels = draw(5)
    matrix = Matrix(features)
    loss = SoftmaxLoss(matrix, labels, 5, blocks.measure_scaling(matrix))
    identity = lbfgs.Spectrum(np.ones(12, np.float32), np.eye(12, dtype=np.float32))
    minima = [
        lbfgs.minimize(
            loss, basis, l2=0.1, start=loss.start(), tolerance=loss.tolerance, iterations=1000
        )
        for basis in (lbfgs.cholesky(loss), lbfgs.decompose(loss), identity)
    ]
    for minimum in minima[:2]:
        for ours, other in zip(minimum.coefficients, minima[2].coefficients, strict=True):
            np.testing.assert_allclose(ours, other, atol=1e-3)
        assert minimum.passes < 0.7 * minima[2].passes


def test_both_bases_make_the_hessian_the_identity():
    features, labels = draw(3)
    matrix = Matrix(features)
    loss = SoftmaxLoss(matrix, labels, 3, blocks.measure_scaling(matrix))
    hessian = 0.2 * loss.gram() + 3 * np.eye(12)
    for basis in (lbfgs.cholesky(loss), lbfgs.decompose(loss)):
        b = basis.of(0.2 * len(labels), 3.0).astype(np.float64)
        np.testing.assert_allclose(b @ hessian @ b.T, np.eye(12), atol=1e-4)


def test_a_start_at_the_minimum_takes_one_pass_and_too_few_iterations_are_reported():
    features, labels = draw(5)
    matrix = Matrix(features)
    loss = SoftmaxLoss(matrix, labels, 5, blocks.measure_scaling(matrix))
    spectrum = lbfgs.decompose(loss)
    settings = {"l2": 1.0, "tolerance": 1e-10}
    stopped = lbfgs.minimize(loss, spectrum, start=loss.start(), iterations=2, **settings)
    assert not stopped.converged
    done = lbfgs.minimize(loss, spectrum, start=loss.start(), iterations=100, **settings)
    assert done.converged and done.passes > 2
    again = lbfgs.minimize(loss, spectrum, start=done.coefficients, iterations=100, **settings)
    assert again.converged and again.passes == 1


def test_all_strengths_of_a_sweep_converge():
    features, labels = draw(5)
    _, choice = logistic.sweep(features, labels)
    assert choice["fits"] == choice["fits_converged"] == 45 and choice["converged"]


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="needs two classes, but all labels are 7"):
        logistic.fit(np.ones((4, 2), np.float32), np.full(4, 7))
