"""Features: in order, whoever extracts them; and kept in a file that is not believed blindly."""

import os

import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.data import errors
from tf_simclr.data.batch import EvalBatch
from tf_simclr.probes import features
from tf_simclr.probes.features import RAW_PIXELS, Features


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


@pytest.fixture
def created():
    """A function that makes features and counts how often."""

    def make():
        make.calls += 1
        numbers = np.full((3, 2), make.calls, np.float32)
        arrays = {"a/b": numbers, RAW_PIXELS: np.ones((3, 1), np.uint8)}
        return Features(arrays, np.arange(3), skipped=4)

    make.calls = 0
    return make


def test_features_are_made_once(tmp_path, created):
    first, from_file = features.cached(str(tmp_path / "features"), "key", created)
    assert not from_file and created.calls == 1
    again, from_file = features.cached(str(tmp_path / "features"), "key", created)
    assert from_file and created.calls == 1
    assert again.arrays.keys() == first.arrays.keys() and again.skipped == 4
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)
        assert again.arrays[name].dtype == array.dtype
    np.testing.assert_array_equal(again.labels, first.labels)
    _, from_file = features.cached(str(tmp_path / "features"), "other key", created)
    assert not from_file and created.calls == 2


def test_a_spoilt_file_and_one_of_another_key_are_replaced(tmp_path, created):
    folder = str(tmp_path)
    features.cached(folder, "key", created)
    [name] = os.listdir(folder)
    path = tmp_path / name
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a zip file"):
        path.write_bytes(content)
        calls = created.calls
        assert features.cached(folder, "key", created)[1] is False and created.calls == calls + 1
        assert features.cached(folder, "key", created)[1] is True
    # By chance under the same name: the key in the file counts.
    features.cached(folder, "second", created)
    [other] = set(os.listdir(folder)) - {name}
    os.replace(tmp_path / other, path)
    assert features.cached(folder, "key", created)[1] is False
    assert not [n for n in os.listdir(folder) if "unfinished" in n]
