"""Image ops against the official code's numbers (golden/augment.npz) and their distributions."""

import itertools
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tf_simclr.data.augment import blur, color, crop, distortion, views

GOLDEN_FILE = pathlib.Path(__file__).parents[2] / "golden" / "augment.npz"
IMAGES = ("image0", "image1", "image2")
PIXEL_OPS = {
    "brightness_v2": color.BRIGHTNESS,
    "contrast": color.CONTRAST,
    "saturation": color.SATURATION,
    "hue": color.HUE,
}
SEED = tf.constant([3, 4], tf.int64)
BOX = np.array([3, 4, 30, 35], np.int32)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN_FILE) as file:
        return dict(file)


def run_everywhere(function, *arguments):
    """The result, after checking that eager, graph and Dataset.map agree."""
    arguments = [tf.convert_to_tensor(argument) for argument in arguments]
    eager = function(*arguments).numpy()
    graph = tf.function(function)(*arguments).numpy()
    mapped = next(iter(tf.data.Dataset.from_tensors(tuple(arguments)).map(function))).numpy()
    np.testing.assert_allclose(graph, eager, atol=1e-5)
    np.testing.assert_allclose(mapped, eager, atol=1e-5)
    return eager


def draw(function, count, *, salt=0):
    """function(seed) for many seeds, stacked."""
    seeds = tf.data.Dataset.range(count).map(lambda i: tf.stack([i, tf.constant(salt, tf.int64)]))
    # AutoGraph cannot read lambdas defined in one expression, and nothing here needs it.
    function = tf.autograph.experimental.do_not_convert(function)
    return next(iter(seeds.map(function, num_parallel_calls=2).batch(count))).numpy()


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


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("size", [32, 64, 96])
def test_central_crop_matches_official(golden, image, size):
    result = run_everywhere(lambda x: crop.central_crop_and_resize(x, size), golden[image])
    np.testing.assert_allclose(result, golden[f"{image}_eval{size}_crop"], atol=2 / 255)
    # On these numbers the very same ops run: a crop one pixel off differs by more than 0.1.
    assert np.abs(result - golden[f"{image}_eval{size}_crop"]).mean() < 1e-4


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


@pytest.mark.parametrize("impl", color.JITTER_IMPLS)
def test_compiled_view_is_the_plain_one(golden, monkeypatch, impl):
    """For the same seeds, of pixels beyond [0, 1] too, as bicubic weights leave them."""
    image = tf.constant(golden["image0"][:64, :64] // 128 * 255)  # edges from black to white

    def view(seed):
        box = tf.constant([0, 0, 60, 64])
        return views.pretraining_view(image, box, seed, image_size=40, strength=1.0, impl=impl)

    compiled = draw(view, 300)
    monkeypatch.setattr(views, "_finish_compiled", views._finish)
    plain = draw(view, 300)
    np.testing.assert_allclose(compiled, plain, atol=2e-5)
    assert len(np.unique(plain.mean((1, 2, 3)).round(4))) > 150  # some are all black or white


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
    # Stand-ins that write the order down: the image is a number in base 4.
    digits = (lambda image, _, d=digit: (image + d) / 4 for digit in range(4))
    replace_ops(monkeypatch, "simclrv2", *digits)
    zero = tf.zeros((1, 1, 3))
    codes = draw(lambda seed: distortion.color_jitter(zero, seed, strength=1.0), 4800)[:, 0, 0, 0]
    digits = np.round(codes[:, None] * 256).astype(int) // 4 ** np.arange(4) % 4
    orders = {order: 0 for order in itertools.permutations(range(4))}
    for row in digits:
        orders[tuple(row)] += 1  # a KeyError would be an op done twice
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
    # The image carries the amount out, squeezed into [0, 1].
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
    # 9 is cut to 1 before the division, or after it: never 3.
    assert {round(float(value), 4) for value in result.ravel()} == {0.3333, 1.0}


def test_jitter_of_zero_strength_is_identity(golden):
    patch = golden["image0_patch"]
    result = distortion.color_jitter(tf.constant(patch), SEED, strength=0.0)
    np.testing.assert_allclose(result, patch, atol=1e-5)


def test_unknown_impl_is_refused():
    with pytest.raises(ValueError, match="color_jitter_impl.*simclrv9"):
        distortion.color_jitter(tf.zeros((2, 2, 3)), SEED, strength=1.0, impl="simclrv9")


def test_crop_boxes_match_official_samples(golden):
    boxes = draw(lambda seed: crop.random_crop_box(seed, 375, 500), 3000)
    official = golden["crop_boxes_375x500"]
    assert boxes.dtype == np.int32
    for column in range(4):
        assert stats.ks_2samp(boxes[:, column], official[:, column]).pvalue > 1e-4, column
    y, x, height, width = boxes.T
    assert (y >= 0).all() and (x >= 0).all()
    assert (y + height <= 375).all() and (x + width <= 500).all()


def test_crop_is_the_box_resized(golden):
    image = golden["image0"]
    box = y, x, height, width = crop.random_crop_box(SEED, *image.shape[:2]).numpy()
    part = image[y : y + height, x : x + width].astype(np.float32)
    expected = tf.image.resize(part, (24, 24), "bicubic")
    result = run_everywhere(lambda i, b: crop.crop_and_resize(i, b, 24), image, box)
    np.testing.assert_allclose(result, expected, atol=1e-5 * 255)


def test_flip_mirrors_half_of_the_images():
    image = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    result = draw(
        lambda seed: crop.random_flip(tf.constant(image), tf.random.stateless_uniform([], seed)),
        2000,
    )
    mirrored = (result == image[:, ::-1]).all((1, 2, 3))
    assert ((result == image).all((1, 2, 3)) | mirrored).all()
    assert abs(mirrored.mean() - 0.5) < 0.045  # four standard deviations


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
    """Without XLA: a resumed run goes on with the numbers that it began with."""
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


@pytest.mark.parametrize("size", [32, 48])
@pytest.mark.parametrize("image", IMAGES)
def test_views_are_floats_in_unit_range(golden, image, size):
    functions = (
        lambda x, s: views.pretraining_view(x, BOX, s, image_size=size, strength=1.0),
        lambda x, s: views.finetuning_view(x, BOX, s, image_size=size),
        lambda x, s: views.evaluation_view(x, image_size=size),
    )
    for view in functions:
        result = run_everywhere(view, golden[image], SEED)
        assert result.dtype == np.float32 and result.shape == (size, size, 3)
        assert result.min() >= 0 and result.max() <= 1 and result.std() > 0.01


def test_same_seed_same_view_other_seed_other_view(golden):
    def view(seed):
        return views.pretraining_view(
            golden["image0"], BOX, tf.constant(seed), image_size=32, strength=1.0
        ).numpy()

    np.testing.assert_array_equal(view([1, 2]), view([1, 2]))
    assert np.abs(view([1, 2]) - view([1, 3])).max() > 0.01


def test_finetuning_has_no_color_distortion():
    brown = np.array([200, 100, 50], np.uint8)
    image = tf.constant(np.tile(brown, (40, 50, 1)))
    result = draw(lambda seed: views.finetuning_view(image, BOX, seed, image_size=8), 50)
    np.testing.assert_allclose(result, np.broadcast_to(brown / 255, result.shape), atol=1e-4)


def test_small_evaluation_is_the_image_itself(golden):
    image = golden["image1"][:32, :32]
    result = run_everywhere(lambda x: views.evaluation_view(x, image_size=32), image)
    np.testing.assert_allclose(result, image.astype(np.float32) / 255, atol=1e-6)


def test_small_evaluation_resizes_the_whole_image(golden):
    image = golden["image1"][:28, :28]
    result = views.evaluation_view(image, image_size=32)
    expected = tf.image.resize(image.astype(np.float32) / 255, (32, 32), "bicubic")
    np.testing.assert_allclose(result, np.clip(expected, 0, 1), atol=1e-5)


@pytest.mark.parametrize("image", IMAGES)
def test_large_evaluation_is_the_clipped_central_crop(golden, image):
    result = views.evaluation_view(golden[image], image_size=64)
    np.testing.assert_allclose(result, np.clip(golden[f"{image}_eval64_crop"], 0, 1), atol=2 / 255)
