"""Specs of the input pipeline's batches, over the grid of settings on which they depend."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.data.batch import ImageBatch
from tf_simclr.data.pipeline import batch_spec
from tf_simclr.data.pipeline.settings import ViewSettings
from tf_simclr.data.sources import tfds_source
from tf_simclr.training import microbatch, run_input

SIZES, BATCHES, REPLICAS = (32, 64, 224), (2, 16, 64, 256), (1, 2)
# 64 images of 64 pixels fit in a group; 256 do not, nor do 64 floats of 224.
GRID = list(itertools.product(SIZES, BATCHES, ("pretrain", "finetune"), ("host", "device")))
# Each size with each train mode and augment_on, and each batch size three times. The rest is long.
SHORT = [case for i, case in enumerate(GRID) if case[1] == BATCHES[(i + i // 16) % 4]]


@pytest.fixture(scope="module")
def pictures(bad_images_dir):
    """Images of many sizes, in a split as large as the largest batch."""
    source = tfds_source.open_source("bad_images", bad_images_dir)
    return source, "+".join(["train"] * 6)


def batches(source, strategy, **settings):
    config = Config().replace(seed=1, warmup_epochs=0.0, **settings)
    return run_input.train_batches(config, source, strategy, examples_seen=0)


def expected(source, settings: dict, batch_size: int) -> tuple:
    views = ViewSettings(settings["train_mode"], settings["image_size"], 1.0, "simclrv2")
    on_device = settings["augment_on"] == "device"
    spec = batch_spec.crop_spec if on_device else batch_spec.view_spec
    return spec(source, views, batch_size)


@pytest.mark.parametrize(
    "size, batch, train_mode, augment_on",
    [case if case in SHORT else pytest.param(*case, marks=pytest.mark.long) for case in GRID],
)
def test_specs_over_the_grid(pictures, replicas, size, batch, train_mode, augment_on):
    source, split = pictures
    settings = dict(
        image_size=size,
        train_batch_size=batch,
        train_mode=train_mode,
        augment_on=augment_on,
        train_split=split,
    )
    cache = (size // 32 + batch) % 3 == 0  # each value of a setting meets each value of another
    found = batches(source, tf.distribute.get_strategy(), cache_dataset=cache, **settings)
    assert found.element_spec == expected(source, settings, batch)

    @tf.function
    def in_parts(images, labels):
        return microbatch._split((images, labels), batch // 2)

    parts = in_parts.get_concrete_function(*found.element_spec[:2]).structured_outputs
    for part in tf.nest.flatten(parts):
        assert part.shape[:2] == (2, batch // 2)

    strategy = replicas(2)
    spec = batches(source, strategy, cache_dataset=cache, **settings).element_spec
    for of_both, one in zip(
        tf.nest.flatten(spec), tf.nest.flatten(expected(source, settings, batch // 2)), strict=True
    ):
        assert of_both._value_specs == (one, one)


@pytest.mark.parametrize(
    "size, batch, augment_on, cache",
    [
        (32, 16, "host", True),
        (64, 64, "device", False),
        (64, 64, "host", True),
        (96, 32, "device", True),
    ],
)
def test_batches_keep_the_promise(pictures, size, batch, augment_on, cache):
    source, split = pictures
    found = batches(
        source,
        tf.distribute.get_strategy(),
        image_size=size,
        train_batch_size=batch,
        augment_on=augment_on,
        cache_dataset=cache,
        train_split=split,
    )
    for tensor, spec in zip(
        tf.nest.flatten(next(iter(found))), tf.nest.flatten(found.element_spec), strict=True
    ):
        assert tensor.shape == spec.shape and tensor.dtype == spec.dtype


@pytest.mark.parametrize("cache", [False, True])
def test_specs_of_images_that_the_device_crops(shapes_dir, cache):
    source = tfds_source.open_source("shapes", str(shapes_dir))
    spec = batches(
        source,
        tf.distribute.get_strategy(),
        image_size=64,
        train_batch_size=64,
        augment_on="device",
        cache_dataset=cache,
    ).element_spec
    assert spec == ImageBatch(
        images=tf.TensorSpec((64, 32, 32, 3), tf.uint8),
        boxes=tf.TensorSpec((64, 2, 4), tf.int32),
        labels=tf.TensorSpec((64, 10)),
        skipped=tf.TensorSpec((64,)),
    )


@pytest.mark.parametrize("size, batch, number", [(32, 8, 1), (64, 6, 2), (224, 256, 1)])
def test_specs_of_evaluation(pictures, replicas, size, batch, number):
    source, _ = pictures
    config = Config().replace(image_size=size, eval_batch_size=batch)
    context = tf.distribute.InputContext(1, 0, number)
    found = run_input.eval_batches(config, source, "test", context)
    spec = batch_spec.evaluation_spec(source, image_size=size, batch_size=batch // number)
    assert found.element_spec == spec


def test_a_broken_promise_is_told_when_the_pipeline_is_built():
    spec = (tf.TensorSpec((4, 3), tf.float32),)
    batch_spec.check(tf.data.Dataset.from_tensors((np.zeros((4, 3), np.float32),)), spec)
    with pytest.raises(AssertionError, match="uint8"):
        batch_spec.check(tf.data.Dataset.from_tensors((np.zeros((4, 3), np.uint8),)), spec)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        batch_spec.with_shapes((tf.zeros((4, 2)),), spec)
