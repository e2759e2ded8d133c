"""The batched ops against TensorFlow's on single images, golden numbers and the host's draws."""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tf_simclr.data.augment import color, crop, distortion, on_device
from tf_simclr.data.pipeline import undecodable

SEED = tf.constant([3, 4])


@functools.cache
def compiled(strength: float, impl: str):
    return tf.function(
        lambda x, seed: on_device.color_distortion(x, seed, strength=strength, impl=impl),
        jit_compile=True,
    )


def distorted(image, count, *, strength=1.0, impl="simclrv2", batch_size=4):
    """Distorts one image many times, in small batches, each with one permutation."""
    batch = tf.tile(image[None], (batch_size, 1, 1, 1))
    call = compiled(strength, impl)
    return np.concatenate([call(batch, tf.constant([i, 9])) for i in range(count // batch_size)])


@pytest.mark.parametrize("image", ["image0", "image1", "image2"])
def test_pixel_ops_match_official(golden, image):
    ops = {
        "brightness_v2": color.BRIGHTNESS,
        "contrast": color.CONTRAST,
        "saturation": color.SATURATION,
        "hue": color.HUE,
    }
    patch = golden[f"{image}_patch"]
    for name, op in ops.items():
        cases = [key for key in golden if key.startswith(f"{image}_{name}_")]
        amounts = [float(key.rsplit("_", 1)[1]) for key in cases]
        planes = tf.unstack(tf.tile(patch[None], (len(cases), 1, 1, 1)), axis=-1)
        found = tf.stack(op.on_planes(planes, tf.constant(amounts)[:, None, None]), axis=-1)
        for key, result in zip(cases, np.clip(found, 0, 1), strict=True):
            np.testing.assert_allclose(result, golden[key], atol=1e-5, err_msg=key)
        assert cases


@pytest.mark.parametrize("impl", color.JITTER_IMPLS)
@pytest.mark.parametrize("strength", [1.0, pytest.param(0.5, marks=pytest.mark.long)])
def test_color_distortion_matches_official_samples_and_the_host(golden, impl, strength):
    patch = tf.constant(golden["image0_patch"])
    ours = distorted(patch, 3000, strength=strength, impl=impl)
    seeds = tf.data.Dataset.range(1500).map(lambda i: tf.stack([i, tf.constant(5, tf.int64)]))
    host = seeds.map(
        lambda seed: distortion.color_distortion(patch, seed, strength=strength, impl=impl),
        num_parallel_calls=2,
    )
    host = next(iter(host.batch(1500))).numpy()
    for name, function in (("mean", np.mean), ("std", np.std)):
        # A fifth of the images is not distorted, and a fifth of these made gray. Their values are
        # equal, and rounding in the last place must not tell them apart.
        values, on_host, official = (
            np.round(v, 5)
            for v in (
                function(ours, axis=(1, 2)),
                function(host, axis=(1, 2)),
                golden[f"jitter_{impl}_{strength}_{name}_rgb"],
            )
        )
        for channel, others in itertools.product(range(3), (official, on_host)):
            test = stats.ks_2samp(values[:, channel], others[:, channel])
            assert test.pvalue > 1e-4, (name, channel)
    if impl == "simclrv1":
        return  # which turns some images black or white
    gray = np.ptp(ours, axis=-1).max((1, 2)) < 1e-5
    assert abs(gray.mean() - 0.2) < 0.03  # four standard deviations
    assert ours.min() >= 0 and ours.max() <= 1


def test_orders_are_uniform_and_each_op_runs_once(monkeypatch):
    # Stand-ins that record the order: the image is a number in base 4.
    def digit(d):
        return lambda planes, _: [(plane + d) / 4 for plane in planes]

    ops = enumerate(color.OPERATIONS["simclrv2"])
    ops = tuple(op._replace(on_planes=digit(d)) for d, op in ops)
    monkeypatch.setitem(color.OPERATIONS, "simclrv2", ops)

    @tf.function
    def codes(order):
        planes = on_device._jitter([tf.zeros((7, 1, 1))] * 3, tf.zeros((7, 4)), order, "simclrv2")
        return planes[0][:, 0, 0]

    counts = {order: 0 for order in itertools.permutations(range(4))}
    for order in counts:
        for code in codes(tf.constant(order)).numpy()[:8:2]:  # one image of each group
            counts[tuple(int(round(code * 256)) // 4**k % 4 for k in range(4))] += 1
    # Groups of the 7 images: 2, 2, 2, 1, so that each permutation gives its four shifts.
    assert set(counts.values()) == {4}


def test_amounts_and_flips_differ_from_image_to_image():
    images = tf.fill((64, 2, 2, 3), 0.3)
    result = compiled(0.5, "simclrv1")(images, SEED).numpy().reshape(64, -1)
    assert len(np.unique(result.round(5), axis=0)) > 40  # a fifth are not distorted
    flips = on_device.random_flips(2000, SEED).numpy()
    assert abs(flips.mean() - 0.5) < 0.045  # four standard deviations
    rows = tf.reshape(tf.range(12.0), (2, 1, 2, 3))
    found = on_device.flip(rows, tf.constant([True, False]))
    np.testing.assert_array_equal(found, np.stack([rows[0, :, ::-1], rows[1]]))


@pytest.mark.parametrize("size", [16, 40, 64])
def test_crops_are_those_of_tf_image(size):
    shape = (24, 40, 48, 3)
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    boxes = crop.random_crop_boxes(24, SEED, 40, 48)
    flips = np.arange(24) % 2 == 1
    compiled_crop = tf.function(
        lambda *arguments: on_device.crop_and_resize(*arguments, size), jit_compile=True
    )
    found = compiled_crop(images, boxes, flips)
    for image, (y, x, height, width), flipped, result in zip(
        images, boxes.numpy(), flips, found, strict=True
    ):
        part = image[y : y + height, x : x + width].astype(np.float32) / 255
        expected = tf.image.resize(part, (size, size), "bicubic")
        expected = np.clip(expected[:, ::-1] if flipped else expected, 0, 1)
        np.testing.assert_allclose(result, expected, atol=2e-6)


def test_crop_boxes_match_official_samples_and_tensorflow(golden):
    found = crop.random_crop_boxes(3000, SEED, 375, 500).numpy()
    for column in range(4):
        official = golden["crop_boxes_375x500"][:, column]
        assert stats.ks_2samp(found[:, column], official).pvalue > 1e-4, column
    for height, width in ((32, 32), (20, 100), (100, 10)):
        found = crop.random_crop_boxes(3000, SEED, height, width).numpy()
        seeds = tf.data.Dataset.range(2000).map(lambda i: tf.stack([i, tf.constant(7, tf.int64)]))
        single = seeds.map(lambda s, h=height, w=width: crop.random_crop_box(s, h, w))
        single = next(iter(single.batch(2000))).numpy()
        for column in range(4):
            pvalue = stats.ks_2samp(found[:, column], single[:, column]).pvalue
            assert pvalue > 1e-4, (height, width, column)
        y, x, box_height, box_width = found.T
        assert (y + box_height <= height).all() and (x + box_width <= width).all()
        assert found[:, :2].min() >= 0 and found[:, 2:].min() > 0


def test_the_next_good_image_stands_in():
    images = tf.reshape(tf.range(5, dtype=tf.int32), (5, 1, 1, 1))
    label, index = tf.range(5, dtype=tf.int64), tf.range(10, 15, dtype=tf.int64)
    good = tf.constant([False, True, False, True, False])
    found = undecodable.with_stand_ins(images, label, good, index, name="x")
    for values, expected in zip(
        found, ([1, 1, 3, 3, 1], [1, 1, 3, 3, 1], [1, 0, 1, 0, 1]), strict=True
    ):
        np.testing.assert_array_equal(np.ravel(values), expected)
    with pytest.raises(tf.errors.InvalidArgumentError, match="5 examples in a row.*position 10"):
        undecodable.with_stand_ins(images, label, tf.zeros(5, tf.bool), index, name="x")
