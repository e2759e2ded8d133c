"""The device's part of the augmentation: which random numbers go where."""

import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.data.augment import on_device
from tf_simclr.data.augment.device_views import DEVICE_STREAM, DeviceViews
from tf_simclr.data.batch import CropBatch, ImageBatch, ViewBatch

N, SIZE = 8, 12
RNG = np.random.default_rng(0)
PIXELS = tf.constant(RNG.integers(0, 256, size=(N, 2, 16, 16, 3)), tf.uint8)
SMALL = tf.constant(RNG.integers(0, 256, size=(N, 2, SIZE, SIZE, 3)), tf.uint8)
BOXES = tf.constant(
    np.stack(
        [
            RNG.integers(0, 5, (N, 2)),
            RNG.integers(0, 5, (N, 2)),
            RNG.integers(6, 12, (N, 2)),
            RNG.integers(6, 12, (N, 2)),
        ],
        axis=-1,
    ),
    tf.int32,
)
NONE = tf.zeros((N, 0))
INPUTS = {
    "whole images": ImageBatch(PIXELS[:, 0], BOXES, NONE, NONE),
    "crops": CropBatch(SMALL, NONE, NONE),
}


def make(train_mode="pretrain", *, compiled=False, seed=7):
    config = Config().replace(
        train_mode=train_mode,
        image_size=SIZE,
        seed=seed,
        use_blur=False,
        color_jitter_strength=1.0,
    )
    return DeviceViews(config, compiled=compiled)


def cropped(batch, view: int, flips) -> tf.Tensor:
    """By the pixels or the box of that view."""
    if isinstance(batch, ImageBatch):
        return on_device.crop_and_resize(batch.images, batch.boxes[:, view], flips, SIZE)
    return on_device.flip(on_device.to_float(batch.crops[:, view]), flips)


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("compiled", [False, True])
def test_pretraining_views_are_their_crops_mirrored_and_colored(kind, compiled):
    images, augmentation = INPUTS[kind], make(compiled=compiled)
    for view, found in enumerate(augmentation.views(images, step=0, part=3)):
        seed = augmentation._seed_of(DEVICE_STREAM, 0, 3, view)
        flips, colors = tf.unstack(tf.random.experimental.stateless_split(seed, 2, alg="philox"))
        expected = on_device.color_distortion(
            cropped(images, view, on_device.random_flips(N, flips)),
            colors,
            strength=1.0,
            impl="simclrv2",
        )
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert np.abs(found - cropped(images, view, tf.zeros(N, tf.bool))).max() > 0.1


@pytest.mark.parametrize("kind", INPUTS)
def test_fine_tuning_views_are_their_crops_some_of_them_mirrored(kind):
    images = INPUTS[kind]
    (found,) = make("finetune").views(images, step=0, part=0)
    plain, mirrored = (cropped(images, 0, tf.fill([N], flip)) for flip in (False, True))
    which = [
        (np.allclose(f, p, atol=1e-6), np.allclose(f, m, atol=1e-6))
        for f, p, m in zip(found, plain, mirrored, strict=True)
    ]
    assert set(which) == {(True, False), (False, True)}


@pytest.mark.parametrize("kind", INPUTS)
def test_random_numbers_differ_by_view_place_step_and_seed(kind):
    batch = INPUTS[kind]
    per_view = "boxes" if isinstance(batch, ImageBatch) else "crops"
    both = tf.repeat(getattr(batch, per_view)[:, :1], 2, axis=1)
    same = batch._replace(**{per_view: both})
    first, second = make().views(same, step=0, part=0)
    others = {
        "view": second,
        "part": make().views(same, step=0, part=1)[0],
        "step": make().views(same, step=1, part=0)[0],
        "seed": make(seed=8).views(same, step=0, part=0)[0],
    }
    for name, other in others.items():
        assert np.abs(first - other).max() > 0.1, name
    np.testing.assert_array_equal(first, make().views(same, step=0, part=0)[0])


@pytest.mark.parametrize("kind", INPUTS)
def test_preview_is_of_first_views_as_the_step_augments_them(kind):
    images = INPUTS[kind]
    plain = cropped(images, 0, tf.zeros(N, tf.bool))[:3]
    found = make().preview(images, step=0, count=3)
    assert found.shape == (3, SIZE, SIZE, 3) and found.dtype == tf.float32
    assert np.abs(found - plain).max() > 0.1
    (fine,) = [make("finetune").preview(images, step=0, count=3)]
    for image, expected in zip(fine, plain, strict=True):
        assert np.allclose(image, expected, atol=1e-6) or np.allclose(
            image, expected[:, ::-1], atol=1e-6
        )


def test_a_compiled_preview_is_the_steps_own_first_views_and_compiles_nothing_more():
    augmentation = make(compiled=True)
    first, _ = augmentation.views(INPUTS["crops"], step=0, part=0)
    preview = augmentation.preview(INPUTS["crops"], step=0, count=3)
    np.testing.assert_array_equal(preview, first[:3])
    assert augmentation._finish_crops.experimental_get_tracing_count() == 1


def test_views_of_the_host_are_only_blurred():
    views = tf.constant(RNG.uniform(size=(N, 2, SIZE, SIZE, 3)), tf.float32)
    found = make().views(ViewBatch(views, NONE, NONE), step=0, part=0)
    np.testing.assert_array_equal(tf.stack(found, axis=1), views)
    with pytest.raises(TypeError, match="tuple is not a training batch"):
        make().views((views,), step=0, part=0)
