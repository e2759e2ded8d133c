"""Crop boxes, crops and flips against the official code's numbers and distributions."""

import numpy as np
import pytest
import tensorflow as tf
from everywhere import IMAGES, draw, run_everywhere
from scipy import stats

from tf_simclr.data.augment import crop

SEED = tf.constant([3, 4], tf.int64)


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("size", [32, 64, 96])
def test_central_crop_matches_official(golden, image, size):
    result = run_everywhere(lambda x: crop.central_crop_and_resize(x, size), golden[image])
    np.testing.assert_allclose(result, golden[f"{image}_eval{size}_crop"], atol=2 / 255)
    # On these numbers the very same ops run: a crop one pixel off differs by more than 0.1.
    assert np.abs(result - golden[f"{image}_eval{size}_crop"]).mean() < 1e-4


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
