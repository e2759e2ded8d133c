"""The fused batch normalization against the unfused one of Keras."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.models.batch_norm import BatchNorm

NAMES = ("gamma", "beta", "moving_mean", "moving_variance")


def make(kind, shape, **settings):
    """Makes a layer whose variables do not have their initial values."""
    layer = kind(momentum=0.7, epsilon=1e-5, synchronized=True, **settings)
    layer.build((None, *shape[1:]))
    rng = np.random.default_rng(1)
    for name in NAMES:
        if (variable := getattr(layer, name)) is not None:
            variable.assign(rng.uniform(0.5, 1.5, shape[-1:]))
    return layer


def both_ways(layer, x, weights, *, training: bool) -> dict[str, np.ndarray]:
    """Returns the outputs, the gradients and the variables after the call, in float32."""
    watched = [layer.gamma] if layer.beta is None else [layer.gamma, layer.beta]
    watched = [x, *(v if isinstance(v, tf.Variable) else v.value for v in watched)]
    with tf.GradientTape() as tape:
        tape.watch(watched)
        y = layer(x, training=training)
        loss = tf.reduce_sum(tf.cast(y, tf.float32) * weights)
    gradients = tape.gradient(loss, watched)
    results = {"y": y} | dict(zip(("dx", "dgamma", "dbeta"), gradients, strict=False))
    results |= {name: v for name in NAMES[2:] if (v := getattr(layer, name)) is not None}
    return {name: np.array(tf.cast(value, tf.float32)) for name, value in results.items()}


@pytest.mark.parametrize(
    "dtype, fused, tolerance",
    [("float32", False, 1e-5), ("float32", True, 1e-5), ("bfloat16", False, 1e-2)],
)
@pytest.mark.parametrize("shape, center", [((4, 3, 5, 6), True), ((16, 6), False)])
@pytest.mark.parametrize("training", [True, False])
def test_same_as_unfused(dtype, fused, tolerance, shape, center, training):
    rng = np.random.default_rng(0)
    x = tf.cast(rng.normal(size=shape) * rng.uniform(0.1, 3, shape[-1]) + 1, dtype)
    weights = rng.normal(size=shape).astype(np.float32)
    policy = "mixed_bfloat16" if dtype == "bfloat16" else dtype
    ours, keras_own = (
        both_ways(make(kind, shape, center=center, dtype=policy), x, weights, training=training)
        for kind in (
            functools.partial(BatchNorm, fused_in_float32=fused),
            keras.layers.BatchNormalization,
        )
    )
    assert ours.keys() == keras_own.keys()
    for name, expected in keras_own.items():
        # The moving averages come from float32 statistics and must not lose precision.
        largest = tolerance if name in ("y", "dx", "dgamma", "dbeta") else 1e-5
        assert np.abs(ours[name] - expected).max() <= largest * np.abs(expected).max(), name


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_moving_variance_is_that_of_the_batch_without_a_correction(policy):
    layer = make(BatchNorm, (3, 1, 1, 2), dtype=policy)
    before = np.array(tf.convert_to_tensor(layer.moving_variance))
    x = np.float32([[1, 2], [3, 5], [8, -4]]).reshape(3, 1, 1, 2)
    layer(x, training=True)
    expected = 0.7 * before + 0.3 * x.var((0, 1, 2))
    np.testing.assert_allclose(
        np.array(tf.convert_to_tensor(layer.moving_variance)), expected, rtol=1e-6
    )


def test_one_replica_is_fused_and_several_share_their_statistics(replicas):
    x = tf.ones((2, 2, 2, 3))

    def is_fused(strategy, policy, training=True, **settings):
        with strategy.scope():
            layer = make(BatchNorm, x.shape, dtype=policy, **settings)
        graph = (
            tf.function(lambda: strategy.run(lambda: layer(x, training=training)))
            .get_concrete_function()
            .graph
        )
        return "FusedBatchNormV3" in {op.type for op in graph.get_operations()}

    assert is_fused(replicas(1), "mixed_bfloat16")
    assert not is_fused(replicas(2), "mixed_bfloat16")
    assert not is_fused(replicas(1), "float32", fused_in_float32=False)  # as the official code
    assert is_fused(replicas(1), "float32")
    assert not is_fused(replicas(2), "float32")
    assert is_fused(replicas(1), "float32", training=False)


def test_variables_and_statistics_are_float32_under_mixed_precision():
    layer = make(BatchNorm, (2, 2, 2, 3), dtype="mixed_float16")
    assert {tf.as_dtype(getattr(layer, name).dtype) for name in NAMES} == {tf.float32}
    y = layer(tf.ones((2, 2, 2, 3), tf.float16) * 60000.0, training=True)  # overflows when squared
    assert y.dtype == tf.float16 and np.isfinite(y).all()
    mean = np.array(tf.convert_to_tensor(layer.moving_mean))
    assert (mean > 0.29 * 60000).all() and np.isfinite(mean).all()
