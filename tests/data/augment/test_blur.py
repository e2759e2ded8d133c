"""Blur against the official code's numbers, with XLA and without."""

import numpy as np
import pytest
import tensorflow as tf
from everywhere import IMAGES, run_everywhere
from scipy import stats

from tf_simclr.data.augment import blur

SEED = tf.constant([3, 4], tf.int64)


@pytest.mark.parametrize("image", IMAGES)
def test_blur_matches_official(golden, image):
    cases = [key for key in golden if key.startswith(f"{image}_blur_")]
    assert len(cases) == 6
    for key in cases:
        size, sigma = key.split("_")[2:]
        result = run_everywhere(
            lambda x, k=int(size[1:]), s=float(sigma[1:]): blur.gaussian_blur(x, k, s),
            golden[image][None].astype(np.float32) / 255,
        )
        np.testing.assert_allclose(result[0], golden[key], atol=1e-5, err_msg=key)


def test_gaussian_kernel_is_the_normalized_density():
    weights = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 1.3**2))
    result = blur.gaussian_kernel(3, 1.3).numpy()
    np.testing.assert_allclose(result, weights / weights.sum(), rtol=1e-5)


def test_random_blur_under_xla():
    images = tf.random.stateless_uniform((400, 16, 16, 3), [0, 1])
    compiled = tf.function(
        lambda x, seed: blur.random_blur(x, seed, image_size=32), jit_compile=True
    )
    result = compiled(images, SEED).numpy()
    np.testing.assert_array_equal(result, compiled(images, SEED))
    eager = blur.random_blur(images, SEED, image_size=32)
    np.testing.assert_allclose(result, eager, atol=1e-6)
    changed = np.abs(result - images).max((1, 2, 3)) > 1e-6
    assert abs(changed.mean() - 0.5) < 0.1  # four standard deviations
    # One sigma explains every image that was blurred.
    candidates = np.linspace(0.1, 2.0, 400)
    chosen = images.numpy()[changed]
    errors = [
        np.abs(blur.gaussian_blur(chosen[:1], 3, sigma) - result[changed][:1]).max()
        for sigma in candidates
    ]
    sigma = candidates[int(np.argmin(errors))]
    np.testing.assert_allclose(blur.gaussian_blur(chosen, 3, sigma), result[changed], atol=5e-3)


@pytest.mark.parametrize("seed", [[3, 4], [0, 0], [-7, 2**31 - 1]])
def test_random_blur_draws_what_stateless_uniform_draws(monkeypatch, seed):
    """Without XLA: a resumed run continues with the numbers that it began with."""
    sigma_seed, choice_seed = tf.random.experimental.stateless_split(seed, 2)
    sigmas = []
    monkeypatch.setattr(blur, "gaussian_blur", lambda x, k, sigma: sigmas.append(sigma) or x + 1)
    result = blur.random_blur(tf.fill((40, 1, 1, 3), -0.5), seed, image_size=32)
    assert sigmas == [tf.random.stateless_uniform([], sigma_seed, 0.1, 2.0)]
    chosen = tf.random.stateless_uniform([40], choice_seed) < 0.5
    np.testing.assert_array_equal(result[:, 0, 0, 0] == 0.5, chosen)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_random_blur_probability(probability):
    images = tf.random.stateless_uniform((8, 16, 16, 3), [0, 1])
    result = blur.random_blur(images, SEED, image_size=100, probability=probability)
    assert (np.abs(result - images).max((1, 2, 3)) > 1e-4).all() == bool(probability)
    assert result.shape == images.shape


def test_random_blur_draws_sigma_between_its_bounds(monkeypatch):
    seen = []
    monkeypatch.setattr(
        blur, "gaussian_blur", lambda x, k, sigma: seen.append((k, float(sigma))) or x
    )
    for index in range(300):
        blur.random_blur(tf.zeros((1, 2, 2, 3)), tf.constant([index, 9]), image_size=224)
    sizes, sigmas = zip(*seen, strict=True)
    assert set(sizes) == {22}
    assert stats.kstest(sigmas, stats.uniform(0.1, 1.9).cdf).pvalue > 1e-4
