"""Features are in order, whoever extracts them."""

import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.data import errors
from tf_simclr.data.batch import EvalBatch
from tf_simclr.probes import features
from tf_simclr.probes.features import RAW_PIXELS


def batches(num_examples=11, batch=4, bad=(), side=2, unlabelled=()):
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(num_examples, side, side, 3)).astype(np.float32) / 255
    labels = rng.integers(5, size=num_examples)
    one_hot = np.eye(5, dtype=np.float32)[labels]
    one_hot[list(unlabelled)] = 0
    missing = -num_examples % batch
    weights = np.concatenate([np.ones(num_examples), np.zeros(missing)]).astype(np.float32)
    skipped = np.zeros_like(weights)
    skipped[list(bad)] = 1
    padded = EvalBatch(
        np.concatenate([images, np.full((missing, side, side, 3), 9, np.float32)]),
        np.concatenate([one_hot, np.zeros((missing, 5), np.float32)]),
        weights - skipped,
        skipped,
    )
    return images, labels, tf.data.Dataset.from_tensor_slices(padded).batch(batch)


def encoder(factor):
    def model(images, training):
        assert training is False
        return {"final_avg_pool": factor * tf.reduce_mean(images, axis=[1, 2])}

    return model


def extract(strategy, dataset, *, with_pixels=True):
    return features.extract(
        strategy,
        {"once": encoder(1), "twice": encoder(2)},
        strategy.experimental_distribute_dataset(dataset),
        num_batches=int(dataset.cardinality()),
        with_pixels=with_pixels,
        description="features of test",
    )


@pytest.mark.parametrize("number", [1, 2])
def test_the_order_is_kept_and_the_padding_dropped(replicas, number):
    images, labels, dataset = batches()
    result = extract(replicas(number), dataset)
    np.testing.assert_array_equal(result.labels, labels)
    assert set(result.arrays) == {RAW_PIXELS, "once", "twice"}
    np.testing.assert_array_equal(result.arrays[RAW_PIXELS], np.round(images * 255))
    np.testing.assert_allclose(result.matrix(RAW_PIXELS), images.reshape(11, 12), rtol=1e-6)
    np.testing.assert_allclose(result.images(), images, rtol=1e-6)
    np.testing.assert_allclose(result.matrix("once"), images.mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(result.matrix("twice"), 2 * images.mean((1, 2)), rtol=1e-5)
    assert result.skipped == 0


def test_large_images_are_made_smaller_and_pixels_are_kept_only_on_request(replicas):
    images, _, dataset = batches(side=64)
    small = extract(replicas(1), dataset).arrays[RAW_PIXELS]
    expected = images.reshape(11, 32, 2, 32, 2, 3).mean((2, 4)) * 255
    np.testing.assert_allclose(small, expected, atol=0.51)
    assert RAW_PIXELS not in extract(replicas(1), dataset, with_pixels=False).arrays


def test_what_cannot_be_decoded_is_left_out_and_counted(replicas):
    images, labels, dataset = batches(bad=(0, 5))
    result = extract(replicas(1), dataset)
    assert result.skipped == 2
    np.testing.assert_array_equal(result.labels, np.delete(labels, (0, 5)))
    left = np.delete(images, (0, 5), 0)
    np.testing.assert_allclose(result.matrix("once"), left.mean((1, 2)), rtol=1e-5)


def test_what_has_no_label_is_left_out_and_counted(replicas):
    images, labels, dataset = batches(bad=(0,), unlabelled=(0, 2, 5))
    result = extract(replicas(2), dataset)
    assert (result.skipped, result.unlabelled) == (1, 2)
    np.testing.assert_array_equal(result.labels, np.delete(labels, (0, 2, 5)))
    left = np.delete(images, (0, 2, 5), 0)
    np.testing.assert_allclose(result.matrix("once"), left.mean((1, 2)), rtol=1e-5)
    with pytest.raises(errors.UndecodableError, match="not one example has a label"):
        extract(replicas(1), batches(unlabelled=range(11))[2])


def test_nothing_but_bad_examples_is_an_error(replicas):
    _, _, dataset = batches(bad=range(11))
    with pytest.raises(errors.UndecodableError, match="features of test: not one"):
        extract(replicas(1), dataset)
