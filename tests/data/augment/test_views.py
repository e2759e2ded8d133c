"""The views that the host makes: range, seeds, compiled and plain, evaluation."""

import numpy as np
import pytest
import tensorflow as tf
from everywhere import IMAGES, draw, run_everywhere

from tf_simclr.data.augment import color, views

SEED = tf.constant([3, 4], tf.int64)
BOX = np.array([3, 4, 30, 35], np.int32)


@pytest.mark.parametrize("impl", color.JITTER_IMPLS)
def test_compiled_view_is_the_plain_one(golden, monkeypatch, impl):
    """For the same seeds, and also for pixels outside [0, 1], as bicubic weights leave them."""
    image = tf.constant(golden["image0"][:64, :64] // 128 * 255)  # edges from black to white

    def view(seed):
        box = tf.constant([0, 0, 60, 64])
        return views.pretraining_view(image, box, seed, image_size=40, strength=1.0, impl=impl)

    compiled = draw(view, 300)
    monkeypatch.setattr(views, "_finish_compiled", views._finish)
    plain = draw(view, 300)
    np.testing.assert_allclose(compiled, plain, atol=2e-5)
    assert len(np.unique(plain.mean((1, 2, 3)).round(4))) > 150  # some are all black or white


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
