"""Linear probes: what is separable is separated, noise is not."""

import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.data import decoding
from tf_simclr.probes import linear


def blobs(spread: float, n=200, seed=0):
    """(features, labels) of four classes at the corners of a square."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=n)
    centres = np.array([[0, 0], [0, 10], [10, 0], [10, 10]])[labels]
    return centres + spread * rng.normal(size=(n, 2)), labels


def test_separable_classes_are_separated():
    assert linear.accuracy(*blobs(1.0, seed=0), *blobs(1.0, seed=1)) > 0.98


def test_noise_is_at_chance():
    rng = np.random.default_rng(0)
    train, test = (rng.normal(size=(1000, 5)) for _ in range(2))
    labels = rng.integers(4, size=(2, 1000))
    assert 0.18 < linear.accuracy(train, labels[0], test, labels[1]) < 0.32


def test_accuracy_is_that_of_the_test_set():
    train_x, train_y = blobs(1.0)
    test_x, test_y = blobs(1.0, seed=1)
    wrong = (test_y + 1) % 4
    assert linear.accuracy(train_x, train_y, test_x, wrong) < 0.02


def test_features_are_standardised_by_the_training_set():
    """A huge constant and tiny units change nothing."""
    train_x, train_y = blobs(2.5)
    test_x, test_y = blobs(2.5, seed=1)
    expected = linear.accuracy(train_x, train_y, test_x, test_y)
    scaled = linear.accuracy(train_x * 1e-4 + 50, train_y, test_x * 1e-4 + 50, test_y)
    assert 0.8 < expected < 1
    assert scaled == pytest.approx(expected, abs=0.011)


def batches(num_examples=11, batch=4, bad=()):
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(num_examples, 2, 2, 3)).astype(np.float32)
    labels = rng.integers(5, size=num_examples)
    missing = -num_examples % batch
    weights = np.concatenate([np.ones(num_examples), np.zeros(missing)]).astype(np.float32)
    skipped = np.zeros_like(weights)
    skipped[list(bad)] = 1
    padded = (
        np.concatenate([images, np.full((missing, 2, 2, 3), 9, np.float32)]),
        np.concatenate([np.eye(5, dtype=np.float32)[labels], np.zeros((missing, 5), np.float32)]),
        weights - skipped,
        skipped,
    )
    return images, labels, tf.data.Dataset.from_tensor_slices(padded).batch(batch)


def encoder(factor):
    def model(images, training):
        assert training is False
        return {"final_avg_pool": factor * tf.reduce_mean(images, axis=[1, 2])}

    return model


def test_extract_keeps_the_order_and_drops_the_padding():
    images, labels, dataset = batches()
    models = {"once": encoder(1), "twice": encoder(2)}
    found = linear.extract(models, dataset, description="test")
    np.testing.assert_array_equal(found.labels, labels)
    assert set(found.features) == {linear.RAW_PIXELS, "once", "twice"}
    np.testing.assert_array_equal(found.features[linear.RAW_PIXELS], images)
    means = images.mean((1, 2))
    np.testing.assert_allclose(found.features["once"], means, rtol=1e-5)
    np.testing.assert_allclose(found.flat("twice"), 2 * means, rtol=1e-5)
    np.testing.assert_array_equal(found.flat(linear.RAW_PIXELS), images.reshape(11, 12))
    assert found.skipped == 0


def test_extract_leaves_out_and_counts_what_cannot_be_decoded():
    images, labels, dataset = batches(bad=(0, 5))
    found = linear.extract({"once": encoder(1)}, dataset, description="test")
    assert found.skipped == 2
    np.testing.assert_array_equal(found.labels, np.delete(labels, (0, 5)))
    np.testing.assert_array_equal(found.features[linear.RAW_PIXELS], np.delete(images, (0, 5), 0))


def test_nothing_but_bad_examples_is_an_error():
    _, _, dataset = batches(bad=range(11))
    with pytest.raises(decoding.UndecodableError, match="features of test: not one"):
        linear.extract({"once": encoder(1)}, dataset, description="features of test")
