"""The steps to a view: the last is the view of training, and notes say what was drawn."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_simclr.config import Config
from tf_simclr.data.augment import color, explain, on_device
from tf_simclr.data.augment.device_views import DeviceViews
from tf_simclr.data.pipeline import first_batches
from tf_simclr.data.sources.folder import FolderSource
from tf_simclr.training import run_input

N = 9  # the groups of color jitter on the device then have 3, 3, 3 and 0 images
BY_SIZE = {"one size": (40, 40), "any size": (None, None)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(N + 3):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
        coarse.resize((40, 40), Image.Resampling.BICUBIC).save(root / f"{i}.png")
    return str(root)


def first_batch(folder, where, shape="any size", **settings):
    source = FolderSource(folder, unlabelled=True)
    source.image_shape = (*BY_SIZE[shape], 3)
    config = Config().replace(
        dataset="folder", data_dir=folder, unlabelled=True, seed=7, **settings
    )
    first = run_input.first_batch(config, source, count=N, on_device=where == "device")
    return config, first


def all_steps(config, first):
    """{(image, view): steps}."""
    return {
        (i, view): explain.steps(
            config,
            first.batch,
            index=i,
            view_index=view,
            image=first.images[i],
            box=first.boxes[i, view],
            seed=first.seeds[i, view],
        )
        for i in range(len(first.images))
        for view in range(first.boxes.shape[1])
    }


@pytest.mark.parametrize(
    "where, shape, settings, atol",
    [
        ("host", "any size", dict(image_size=32), 2e-6),
        pytest.param(
            "host", "any size", dict(image_size=96), 2e-5, marks=pytest.mark.long
        ),  # compiled, as in test_views
        pytest.param(
            "host",
            "any size",
            dict(image_size=32, color_jitter_impl="simclrv1"),
            2e-6,
            marks=pytest.mark.long,
        ),
        ("device", "any size", dict(image_size=96), 2e-6),
        ("device", "one size", dict(image_size=32), 2e-6),
        ("device", "one size", dict(image_size=32, use_blur=False), 2e-6),
        ("host", "any size", dict(image_size=32, train_mode="finetune"), 2e-6),
        ("device", "one size", dict(image_size=48, train_mode="finetune"), 2e-6),
    ],
)
def test_the_last_step_is_the_view_of_training(folder, where, shape, settings, atol):
    config, first = first_batch(folder, where, shape, **settings)
    views = DeviceViews(config).views(first.batch, step=0, part=0)
    found = all_steps(config, first)
    assert len(found) == N * len(views)
    for (i, view), steps in found.items():
        np.testing.assert_allclose(steps[-1].image, views[view][i], atol=atol)
        for step in steps:
            assert step.image.shape == (config.data.image_size,) * 2 + (3,)
            assert 0 <= step.image.min() and step.image.max() <= 1


def test_steps_and_notes_agree(folder):
    config, first = first_batch(folder, "device", image_size=48)
    skips = 0
    for steps in all_steps(config, first).values():
        names = [step.name for step in steps]
        assert names[:2] == ["crop", "flip"] and names[-2:] == ["gray", "blur"]
        jitter = names[2:-2]
        assert jitter == ["color jitter"] or sorted(jitter) == sorted(
            op.name for op in color.operations("simclrv2")
        )
        skips += jitter == ["color jitter"]
        for before, step in zip(steps, steps[1:], strict=False):
            if not step.is_applied:
                np.testing.assert_array_equal(step.image, before.image)
                assert step.note.startswith("not ") or step.note == "color jitter skipped (p = 0.2)"
        flip = steps[1]
        if flip.is_applied:
            np.testing.assert_array_equal(flip.image, steps[0].image[:, ::-1])
        if steps[-2].is_applied:
            assert np.ptp(steps[-2].image, axis=-1).max() < 1e-6
        for before, step in zip(steps[1:], steps[2:], strict=False):
            if step.name == "brightness":
                factor = float(step.note.split("× ")[1])
                expected = np.clip(before.image * factor, 0, 1)
                np.testing.assert_allclose(step.image, expected, atol=0.006)  # two digits
    assert 0 < skips < 2 * N


def test_the_crop_note_is_that_of_the_box(folder):
    config, first = first_batch(folder, "host", image_size=32)
    for (i, view), steps in all_steps(config, first).items():
        _, _, height, width = first.boxes[i, view]
        share = 100 * height * width / 1600
        assert steps[0].note == f"crop {share:.0f}% of the area, aspect {width / height:.2f}"


def test_an_image_of_ones_own_has_the_seeds_of_a_first_image(folder):
    config, first = first_batch(folder, "host", image_size=32)
    own = first_batches.of_image(
        first.images[0], run_input.view_settings(config, on_device=False), seed=7
    )
    np.testing.assert_array_equal(own.boxes[0], first.boxes[0])
    np.testing.assert_allclose(own.batch.views[0], first.batch.views[0], atol=2e-6)


def test_each_image_of_a_batch_has_its_order_of_operations(monkeypatch):
    """The order that `order_of_image` says is the one that `_jitter` runs."""

    def digit(d):
        return lambda planes, _: [(plane + d) / 4 for plane in planes]

    ops = tuple(
        op._replace(on_planes=digit(d)) for d, op in enumerate(color.OPERATIONS["simclrv2"])
    )
    monkeypatch.setitem(color.OPERATIONS, "simclrv2", ops)
    order = tf.constant([2, 0, 3, 1])
    for n in (1, 2, 5, 8, 9):
        planes = on_device._jitter([tf.zeros((n, 1, 1))] * 3, tf.zeros((n, 4)), order, "simclrv2")
        for i, code in enumerate(planes[0].numpy().ravel()):
            ran = [int(round(code * 256)) // 4**k % 4 for k in range(4)]
            assert ran == on_device.order_of_image(order, i, n).numpy().tolist()


def test_notes_of_additive_operations_have_a_sign():
    op = color.BRIGHTNESS_ADDITIVE
    assert explain._amount_note(op, 0.314) == "brightness +0.31"
    assert explain._amount_note(color.HUE, -0.08) == "hue -0.08"
    assert explain._amount_note(color.CONTRAST, 0.72) == "contrast × 0.72"
