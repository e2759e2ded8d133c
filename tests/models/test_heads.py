"""The heads against matrix products in NumPy."""

import keras
import numpy as np
import pytest

from tf_simclr.models import heads
from tf_simclr.models.layers import BatchNormSettings

RNG = np.random.default_rng(0)
FEATURES = 6


def projection_layers(features=FEATURES, **settings):
    defaults = dict(mode="nonlinear", num_layers=3, out_dim=128, bn=BatchNormSettings())
    return heads.projection_layers(features, **(defaults | settings))


def batch(n: int = 16) -> np.ndarray:
    return RNG.normal(size=(n, FEATURES)).astype(np.float32)


def parameters(part) -> dict[str, np.ndarray]:
    """Returns {"dense/kernel": value} of one layer of a head."""
    values = {}
    for name, owner in (("dense", "dense"), ("bn", "dense.bn")):
        layer = part.get_layer(owner)
        for attribute in ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"):
            if getattr(layer, attribute, None) is not None:
                values[f"{name}/{attribute}"] = np.array(getattr(layer, attribute))
    return values


def expected(parts, x, *, by_batch: bool) -> list[np.ndarray]:
    hiddens = []
    for number, part in enumerate(parts, 1):
        p = parameters(part)
        x = x @ p["dense/kernel"]
        mean = x.mean(0) if by_batch else p["bn/moving_mean"]
        variance = x.var(0) if by_batch else p["bn/moving_variance"]
        x = (x - mean) / np.sqrt(variance + 1e-5) * p["bn/gamma"]
        if number < len(parts):
            x = np.maximum(x + p["bn/beta"], 0)
        hiddens.append(x)
    return hiddens


@pytest.mark.parametrize("by_batch", [False, True])
@pytest.mark.parametrize("mode, num_layers", [("nonlinear", 3), ("nonlinear", 1), ("linear", 3)])
def test_projection_head(randomize, mode, num_layers, by_batch):
    parts = projection_layers(mode=mode, num_layers=num_layers, out_dim=4)
    assert len(parts) == (num_layers if mode == "nonlinear" else 1)
    for number, part in enumerate(parts):
        randomize(part, seed=number)
    x = batch()
    hiddens = expected(parts, x, by_batch=by_batch)
    for part, hidden in zip(parts, hiddens, strict=True):
        x = part(x, training=by_batch).numpy()
        np.testing.assert_allclose(x, hidden, rtol=1e-3, atol=1e-4)
    assert x.shape == (16, 4)


def test_variables_of_the_projection_head():
    moving = {"bn/moving_mean", "bn/moving_variance"}
    *middle, last = projection_layers(num_layers=3, out_dim=4)
    assert [part.name for part in (*middle, last)] == ["layer1", "layer2", "layer3"]
    for part in middle:
        assert set(parameters(part)) == {"dense/kernel", "bn/gamma", "bn/beta"} | moving
        assert parameters(part)["dense/kernel"].shape == (FEATURES, FEATURES)
    assert set(parameters(last)) == {"dense/kernel", "bn/gamma"} | moving
    assert parameters(last)["dense/kernel"].shape == (FEATURES, 4)
    for part in (*middle, last):
        np.testing.assert_array_equal(parameters(part)["bn/gamma"], 1)


def test_no_projection_head():
    assert projection_layers(mode="none") == []


def test_unknown_mode():
    with pytest.raises(ValueError, match="proj_head_mode must be one of .*got 'mlp'"):
        projection_layers(mode="mlp")


def test_settings_reach_every_batch_norm():
    bn = BatchNormSettings(momentum=0.42, synchronized=False)
    for part in projection_layers(num_layers=2, bn=bn):
        layer = part.get_layer("dense.bn")
        assert (layer.momentum, layer.synchronized, layer.epsilon) == (0.42, False, 1e-5)


def test_dense_kernels_start_as_normal_0_01():
    keras.utils.set_random_seed(1)
    kernels = [
        part.get_layer("dense").kernel
        for part in (*projection_layers(256, num_layers=2), heads.supervised_head(256, 500))
    ]
    for kernel in map(np.array, kernels):
        assert kernel.std() == pytest.approx(0.01, rel=0.02)
        assert abs(kernel.mean()) < 2e-4
        assert abs(kernel).max() > 0.035  # a normal distribution, not a truncated or uniform one


def test_supervised_head(randomize):
    head = heads.supervised_head(FEATURES, 3)
    dense = head.get_layer("dense")
    np.testing.assert_array_equal(np.array(dense.bias), np.zeros(3))
    randomize(head)
    x = batch()
    logits = x @ np.array(dense.kernel) + np.array(dense.bias)
    np.testing.assert_allclose(head(x), logits, rtol=1e-4, atol=1e-5)
