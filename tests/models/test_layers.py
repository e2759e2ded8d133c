"""Layers against NumPy loops."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.models import layers
from tf_simclr.models.layers import BatchNormSettings

RNG = np.random.default_rng(0)


def build(function, channels: int, **settings) -> keras.Model:
    inputs = keras.Input((None, None, channels))
    return keras.Model(inputs, function(inputs, "x", **settings))


def picture(side: int, channels: int, n: int = 2) -> np.ndarray:
    return RNG.normal(size=(n, side, side, channels)).astype(np.float32)


def weights_of(model, layer: str) -> dict[str, np.ndarray]:
    names = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
    owner = model.get_layer(layer)
    variables = {name: getattr(owner, name, None) for name in names}
    return {name: np.array(v) for name, v in variables.items() if v is not None}


def convolved(x, kernel, *, stride: int, before: int, after: int) -> np.ndarray:
    """Computes a convolution in a loop over the pixels of the output."""
    k = kernel.shape[0]
    x = np.pad(x.astype(np.float64), ((0, 0), (before, after), (before, after), (0, 0)))
    places = range(0, x.shape[1] - k + 1, stride)
    return np.stack(
        [
            np.stack([np.tensordot(x[:, i : i + k, j : j + k], kernel, 3) for j in places], axis=1)
            for i in places
        ],
        axis=1,
    )


def normalized(x, bn) -> np.ndarray:
    scaled = (x - bn["moving_mean"]) / np.sqrt(bn["moving_variance"] + 1e-5)
    return scaled * bn["gamma"] + bn["beta"]


def relu(x):
    return np.maximum(x, 0)


@pytest.mark.parametrize("side", [6, 7])
@pytest.mark.parametrize("kernel_size, before, after", [(7, 3, 3), (3, 1, 1), (2, 0, 1), (1, 0, 0)])
def test_strided_convolution_pads_the_same_at_each_size(side, kernel_size, before, after):
    model = build(layers.conv, 3, filters=4, kernel_size=kernel_size, strides=2)
    x = picture(side, 3)
    kernel = weights_of(model, "x")["kernel"]
    expected = convolved(x, kernel, stride=2, before=before, after=after)
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_convolution_of_stride_1_keeps_the_size(kernel_size):
    model = build(layers.conv, 3, filters=4, kernel_size=kernel_size)
    x, pad = picture(5, 3), kernel_size // 2
    kernel = weights_of(model, "x")["kernel"]
    expected = convolved(x, kernel, stride=1, before=pad, after=pad)
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)


def test_fixed_padding_is_zero_and_goes_to_the_end_where_it_is_odd():
    x = picture(3, 1)
    model = build(layers.fixed_padding, 1, kernel_size=4)
    np.testing.assert_array_equal(model(x), np.pad(x, ((0, 0), (1, 2), (1, 2), (0, 0))))


def test_convolution_has_a_bias_only_where_asked_for():
    assert set(weights_of(build(layers.conv, 3, filters=4, kernel_size=3), "x")) == {"kernel"}
    model = build(layers.conv, 3, filters=4, kernel_size=3, use_bias=True)
    np.testing.assert_array_equal(weights_of(model, "x")["bias"], np.zeros(4))


def test_kernels_start_as_truncated_normal_scaled_by_fan_in():
    keras.utils.set_random_seed(1)
    kernel = weights_of(build(layers.conv, 64, filters=256, kernel_size=3), "x")["kernel"]
    deviation = (1 / (3 * 3 * 64)) ** 0.5
    assert kernel.std() == pytest.approx(deviation, rel=0.01)
    assert abs(kernel.mean()) < 0.01 * deviation
    # Truncation at two standard deviations shrinks the deviation by 0.8796.
    assert abs(kernel).max() == pytest.approx(2 * deviation / 0.87962566, rel=0.001)


def test_batch_norm_by_moving_averages(randomize):
    model = build(layers.batch_norm, 3, settings=BatchNormSettings())
    randomize(model)
    x = picture(4, 3)
    expected = relu(normalized(x, weights_of(model, "x.bn")))
    np.testing.assert_allclose(model(x, training=False), expected, rtol=1e-4, atol=1e-5)
    assert (expected == 0).any()


def test_batch_norm_by_the_batch_and_its_moving_averages():
    model = build(layers.batch_norm, 3, settings=BatchNormSettings(momentum=0.7), relu=False)
    x = picture(4, 3) * [0.01, 1, 2] + [1, 2, 3]  # where the variance is small, epsilon shows
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    expected = (x - mean) / np.sqrt(variance + 1e-5)
    np.testing.assert_allclose(
        model(x.astype(np.float32), training=True), expected, rtol=1e-3, atol=1e-3
    )
    after = weights_of(model, "x.bn")
    np.testing.assert_allclose(after["moving_mean"], 0.3 * mean, rtol=1e-4)
    np.testing.assert_allclose(after["moving_variance"], 0.7 + 0.3 * variance, rtol=1e-4)


def test_batch_norm_options():
    settings = BatchNormSettings(momentum=0.8, synchronized=False)
    model = build(layers.batch_norm, 3, settings=settings, center=False, zero_gamma=True)
    layer = model.get_layer("x.bn")
    assert set(weights_of(model, "x.bn")) == {"gamma", "moving_mean", "moving_variance"}
    np.testing.assert_array_equal(weights_of(model, "x.bn")["gamma"], np.zeros(3))
    assert (layer.epsilon, layer.momentum, layer.synchronized) == (1e-5, 0.8, False)
    plain = build(layers.batch_norm, 3, settings=BatchNormSettings()).get_layer("x.bn")
    assert (plain.epsilon, plain.momentum, plain.synchronized) == (1e-5, 0.9, True)
    np.testing.assert_array_equal(np.array(plain.gamma), np.ones(3))


@pytest.mark.parametrize("ratio, reduced", [(0.25, 2), (0.01, 1)])
def test_squeeze_excitation(randomize, ratio, reduced):
    model = build(layers.squeeze_excitation, 6, filters=8, ratio=ratio)
    randomize(model)
    x = picture(3, 6)
    reduce, expand = weights_of(model, "x.reduce"), weights_of(model, "x.expand")
    assert reduce["kernel"].shape == (1, 1, 6, reduced)
    pooled = x.mean((1, 2))
    hidden = relu(pooled @ reduce["kernel"][0, 0] + reduce["bias"])
    gate = 1 / (1 + np.exp(-(hidden @ expand["kernel"][0, 0] + expand["bias"])))
    np.testing.assert_allclose(model(x), x * gate[:, None, None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strides", [1, 2])
def test_selective_kernel(randomize, strides):
    model = build(
        layers.selective_kernel, 4, filters=3, strides=strides, ratio=0.5, bn=BatchNormSettings()
    )
    randomize(model)
    x = picture(6, 4)
    streams = convolved(x, weights_of(model, "x.conv")["kernel"], stride=strides, before=1, after=1)
    streams = relu(normalized(streams, weights_of(model, "x.conv.bn")))
    first, second = streams[..., :3], streams[..., 3:]
    pooled = (first + second).mean((1, 2))
    reduce = weights_of(model, "x.reduce")["kernel"][0, 0]
    assert reduce.shape == (3, 32), "the bottleneck has at least 32 channels"
    hidden = relu(normalized(pooled @ reduce, weights_of(model, "x.reduce.bn")))
    logits = np.exp(hidden @ weights_of(model, "x.expand")["kernel"][0, 0])
    a, b = logits[:, :3], logits[:, 3:]
    share = (a / (a + b))[:, None, None]
    expected = share * first + (1 - share) * second
    np.testing.assert_allclose(model(x, training=False), expected, rtol=1e-4, atol=1e-4)


def test_selective_kernel_bottleneck_follows_the_ratio():
    model = build(
        layers.selective_kernel, 4, filters=70, strides=1, ratio=0.5, bn=BatchNormSettings()
    )
    assert weights_of(model, "x.reduce")["kernel"].shape == (1, 1, 70, 35)
    assert weights_of(model, "x.expand")["kernel"].shape == (1, 1, 35, 140)


LARGE = RNG.uniform(0, 40, size=(2, 64, 64, 16)).astype(np.float32)
LOGITS = RNG.normal(size=(2, 1, 1, 16)).astype(np.float32)


def gates(precision: str) -> dict[str, np.ndarray]:
    """Computes pooling, both gates and their gradients, which sum over 4096 pixels of LARGE."""
    x, logits = tf.cast(LARGE, precision), tf.constant(LOGITS)
    inputs = keras.Input((64, 64, 16), dtype=precision)
    pool = keras.Model(inputs, layers.global_pool(inputs, "pool"))
    policy = f"mixed_{precision}" if precision != "float32" else precision
    mix = layers.StreamMix(dtype=policy, autocast=False)
    gate = layers.ChannelGate(dtype=policy, autocast=False)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        mixed, gated = mix([x, logits]), gate([tf.sigmoid(logits), x])
        assert mixed.dtype == gated.dtype == x.dtype
        losses = [tf.reduce_mean(tf.cast(t, tf.float32) ** 2) for t in (mixed, gated)]
    results = {
        "pool": pool(x),
        "mix": mixed,
        "gate": gated,
        "gradient of mix": tape.gradient(losses[0], logits),
        "gradient of gate": tape.gradient(losses[1], logits),
    }
    return {name: tf.cast(value, tf.float32).numpy() for name, value in results.items()}


@pytest.mark.parametrize("precision, rounding", [("bfloat16", 2**-8), ("float16", 2**-11)])
def test_sums_over_pixels_are_as_exact_as_the_pixels_in_half_precision(precision, rounding):
    expected = gates("float32")
    for name, value in gates(precision).items():
        apart = np.abs(value - expected[name]).max() / np.abs(expected[name]).max()
        assert apart < 3 * rounding, name


def test_pooling_of_float16_does_not_overflow():
    inputs = keras.Input((None, None, 1), dtype="float16")
    pool = keras.Model(inputs, layers.global_pool(inputs, "pool"))
    np.testing.assert_allclose(pool(tf.fill((1, 128, 128, 1), tf.cast(30.0, tf.float16))), 30.0)


@pytest.mark.parametrize("channels", [8, 16])
def test_a_strided_1x1_convolution_of_few_channels_is_that_of_many(channels):
    """Thin layers subsample first, because the filter gradient of oneDNN would crash."""
    model = build(layers.conv, channels, filters=6, kernel_size=1, strides=2)
    strides = {layer.name: layer.strides for layer in model.layers if hasattr(layer, "strides")}
    thin = channels < 16
    assert strides == ({"x.subsample": (2, 2), "x": (1, 1)} if thin else {"x": (2, 2)})
    x = picture(7, channels)
    kernel = weights_of(model, "x")["kernel"]
    expected = convolved(x, kernel, stride=2, before=0, after=0)
    np.testing.assert_allclose(model(x), expected, atol=1e-5)


def test_the_filter_gradient_of_a_thin_shortcut_at_usual_sizes():
    """This shape (32 views of 224 pixels) crashed the process on CPUs with AVX-512."""
    model = build(layers.conv, 8, filters=16, kernel_size=1, strides=2)
    x = tf.constant(picture(56, 8, n=32))

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x) ** 2)
        return tape.gradient(loss, model.trainable_variables)[0]

    kernel = weights_of(model, "x")["kernel"][0, 0].astype(np.float64)
    pixels = np.reshape(x[:, ::2, ::2], (-1, 8)).astype(np.float64)
    for _ in range(5):
        np.testing.assert_allclose(
            gradient()[0, 0], 2 * pixels.T @ (pixels @ kernel), rtol=1e-4, atol=1e-2
        )
