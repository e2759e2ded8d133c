"""Color operations and distortion against the official code's numbers and distributions."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from everywhere import IMAGES, draw, run_everywhere
from scipy import stats

from tf_simclr.data.augment import color, distortion

PIXEL_OPS = {
    "brightness_v2": color.BRIGHTNESS,
    "contrast": color.CONTRAST,
    "saturation": color.SATURATION,
    "hue": color.HUE,
}
SEED = tf.constant([3, 4], tf.int64)


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("kind", PIXEL_OPS)
def test_pixel_ops_match_official(golden, image, kind):
    op = PIXEL_OPS[kind].on_image
    cases = [key for key in golden if key.startswith(f"{image}_{kind}_")]
    assert cases
    for key in cases:
        amount = float(key.rsplit("_", 1)[1])
        result = run_everywhere(lambda x, a=amount: op(x, a), golden[f"{image}_patch"])
        np.testing.assert_allclose(np.clip(result, 0, 1), golden[key], atol=1e-5, err_msg=key)


def test_additive_brightness_adds():
    image = np.full((2, 2, 3), 0.25, np.float32)
    result = run_everywhere(lambda x: color.BRIGHTNESS_ADDITIVE.on_image(x, 0.5), image)
    np.testing.assert_allclose(result, 0.75, atol=1e-6)


@pytest.mark.parametrize("image", IMAGES)
def test_grayscale_matches_official(golden, image):
    result = run_everywhere(color.to_grayscale, golden[image].astype(np.float32) / 255)
    np.testing.assert_allclose(result, golden[f"{image}_gray"], atol=1e-5)


@pytest.mark.parametrize("impl", color.JITTER_IMPLS)
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_color_distortion_matches_official_samples(golden, impl, strength):
    patch = tf.constant(golden["image0_patch"])
    ours = draw(
        lambda seed: distortion.color_distortion(patch, seed, strength=strength, impl=impl), 3000
    )
    for name, values in (("mean", ours.mean((1, 2))), ("std", ours.std((1, 2)))):
        official = golden[f"jitter_{impl}_{strength}_{name}_rgb"]
        for channel in range(3):
            test = stats.ks_2samp(values[:, channel], official[:, channel])
            assert test.pvalue > 1e-4, (name, channel)


def test_color_distortion_probabilities(golden):
    patch = golden["image0_patch"]
    result = draw(
        lambda seed: distortion.color_distortion(tf.constant(patch), seed, strength=1.0), 4000
    )
    gray = np.ptp(result, axis=-1).max((1, 2)) < 1e-5
    plain_gray = color.to_grayscale(patch).numpy()
    untouched = np.minimum(
        np.abs(result - patch).max((1, 2, 3)), np.abs(result - plain_gray).max((1, 2, 3))
    )
    assert abs(gray.mean() - 0.2) < 0.025  # four standard deviations
    assert abs((untouched < 1e-5).mean() - 0.2) < 0.025


def replace_ops(monkeypatch, impl, *on_image):
    """Replaces what the four operations do to an image."""
    ops = zip(color.OPERATIONS[impl], on_image, strict=True)
    replaced = tuple(op._replace(on_image=function) for op, function in ops)
    monkeypatch.setitem(color.OPERATIONS, impl, replaced)


def test_jitter_order_is_uniform(monkeypatch):
    # Stand-ins that record the order: the image is a number in base 4.
    digits = (lambda image, _, d=digit: (image + d) / 4 for digit in range(4))
    replace_ops(monkeypatch, "simclrv2", *digits)
    zero = tf.zeros((1, 1, 3))
    codes = draw(lambda seed: distortion.color_jitter(zero, seed, strength=1.0), 4800)[:, 0, 0, 0]
    digits = np.round(codes[:, None] * 256).astype(int) // 4 ** np.arange(4) % 4
    orders = {order: 0 for order in itertools.permutations(range(4))}
    for row in digits:
        orders[tuple(row)] += 1  # a KeyError means that an op ran twice
    assert stats.chisquare(list(orders.values())).pvalue > 1e-4


@pytest.mark.parametrize(
    "op, impl, strength, low, high",
    [
        (color.BRIGHTNESS, "simclrv2", 1.0, 0.2, 1.8),
        (color.BRIGHTNESS, "simclrv2", 2.0, 0.0, 2.6),
        (color.BRIGHTNESS_ADDITIVE, "simclrv1", 0.5, -0.4, 0.4),
        (color.CONTRAST, "simclrv2", 0.5, 0.6, 1.4),
        (color.SATURATION, "simclrv1", 1.0, 0.2, 1.8),
        (color.HUE, "simclrv2", 1.0, -0.2, 0.2),
    ],
)
def test_jitter_amounts_are_uniform(monkeypatch, op, impl, strength, low, high):
    functions = [lambda image, _: image] * 4
    # The image holds the amount, squeezed into [0, 1].
    functions[color.OPERATIONS[impl].index(op)] = (
        lambda image, amount: tf.ones_like(image) * (amount + 1) / 5
    )
    replace_ops(monkeypatch, impl, *functions)
    blank = tf.zeros((1, 1, 3))
    result = draw(
        lambda seed: distortion.color_jitter(blank, seed, strength=strength, impl=impl), 1500
    )
    amounts = result[:, 0, 0, 0] * 5 - 1
    assert stats.kstest(amounts, stats.uniform(low, high - low).cdf).pvalue > 1e-4
    assert low - 1e-5 <= amounts.min() and amounts.max() <= high + 1e-5


def test_jitter_clips_after_each_op(monkeypatch):
    identity = lambda image, _: image  # noqa: E731
    nine, third = lambda image, _: image * 0 + 9.0, lambda image, _: image / 3
    replace_ops(monkeypatch, "simclrv2", nine, identity, identity, third)
    result = draw(lambda seed: distortion.color_jitter(tf.ones((1, 1, 3)), seed, strength=1.0), 64)
    # 9 is clipped to 1 before the division or after it, so it is never 3.
    assert {round(float(value), 4) for value in result.ravel()} == {0.3333, 1.0}


def test_jitter_of_zero_strength_is_identity(golden):
    patch = golden["image0_patch"]
    result = distortion.color_jitter(tf.constant(patch), SEED, strength=0.0)
    np.testing.assert_allclose(result, patch, atol=1e-5)


def test_unknown_impl_is_refused():
    with pytest.raises(ValueError, match="color_jitter_impl.*simclrv9"):
        distortion.color_jitter(tf.zeros((2, 2, 3)), SEED, strength=1.0, impl="simclrv9")
