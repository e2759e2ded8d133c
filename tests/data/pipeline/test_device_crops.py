"""What the pipeline leaves to the device: crops in bytes, or images and boxes."""

import numpy as np
import pytest
import tensorflow as tf

import streams
from tf_simclr.data.augment import crop
from tf_simclr.data.pipeline import device_crops, seeds
from tf_simclr.data.sources import tfds_source

SPLIT, NUM, BATCH = "train[:40]", 40, 16


@pytest.fixture(scope="module")
def shapes(shapes_dir):
    return tfds_source.open_source("shapes", str(shapes_dir))


class WithJunk:
    """A source in which every seventh image is replaced by junk."""

    def __init__(self, source):
        self._source = source

    def __getattr__(self, name):
        return getattr(self._source, name)

    def encoded_examples(self, *args, **kwargs):
        def spoiled(i, example):
            return {**example, "image": tf.where(i % 7 == 3, b"junk", example["image"])}

        return self._source.encoded_examples(*args, **kwargs).enumerate().map(spoiled)


def batches(source, count, **changes) -> list:
    """Reads so many batches, whose labels are class numbers."""
    settings = dict(split=SPLIT, train_mode="pretrain", image_size=32, augment_on_device=True)
    dataset = streams.train(source, **(settings | changes)).take(count)
    return [b._replace(labels=np.argmax(b.labels, 1)) for b in dataset.as_numpy_iterator()]


def stream(source, count, split=SPLIT, num=NUM) -> list[dict]:
    """Returns the examples of the stream, decoded; None for an image that cannot be decoded."""

    def decoded(image):
        return None if image == b"junk" else source.decode(image).numpy()

    examples = streams.encoded(source, count, split=split, buffer=num, step=BATCH)
    return [{"image": decoded(x["image"].numpy()), "label": int(x["label"])} for x in examples]


def seed_of_box(view: int, position: int):
    return seeds.derive(streams.SEED, seeds.BOXES + view, position)


@pytest.mark.parametrize("train_mode, num_views", [("pretrain", 2), ("finetune", 1)])
@pytest.mark.parametrize("num_shards", [1, 2])
def test_views_are_the_hosts_crops_in_bytes(shapes, train_mode, num_views, num_shards):
    """Neither mirrored nor distorted; each view of each image has its own box."""
    part = shapes.part_of_split(SPLIT, num_shards, num_shards - 1)
    expected = stream(shapes, 3 * BATCH, part, NUM // num_shards)
    found = batches(
        shapes,
        3,
        train_mode=train_mode,
        image_size=16,
        num_shards=num_shards,
        shard_index=num_shards - 1,
        global_batch_size=BATCH * num_shards,
    )
    crops = np.concatenate([batch.crops for batch in found])
    assert crops.dtype == np.uint8 and crops.shape == (3 * BATCH, num_views, 16, 16, 3)
    assert np.concatenate([batch.labels for batch in found]).tolist() == [
        example["label"] for example in expected
    ]
    for row, example in enumerate(expected):
        position = row * num_shards + num_shards - 1
        for view in range(num_views):
            box = crop.random_crop_box(seed_of_box(view, position), 32, 32)
            exact = np.clip(crop.crop_and_resize(example["image"], box, 16), 0, 255)
            np.testing.assert_allclose(crops[row, view], exact, atol=0.51)


@pytest.mark.parametrize(
    "cache, num_shards",
    [
        (False, 1),
        (True, 2),
        *(pytest.param(*case, marks=pytest.mark.long) for case in ((True, 1), (False, 2))),
    ],
)
def test_small_images_are_cropped_on_the_device(shapes, cache, num_shards):
    """In the same order as on the host, with boxes that differ by view, batch and shard."""
    shard = num_shards - 1
    settings = dict(
        cache=cache, num_shards=num_shards, shard_index=shard, global_batch_size=BATCH * num_shards
    )
    found = batches(shapes, 6, **settings)
    on_host = batches(shapes, 6, augment_on_device=False, **settings)
    for number, (batch, host_batch) in enumerate(zip(found, on_host, strict=True)):
        np.testing.assert_array_equal(batch.labels, host_batch.labels)
        assert not batch.skipped.any()
        first = number * BATCH * num_shards + shard
        for view in range(2):
            np.testing.assert_array_equal(
                batch.boxes[:, view],
                crop.random_crop_boxes(BATCH, seed_of_box(view, first), 32, 32),
            )
    drawn = np.concatenate([batch.boxes.reshape(-1, 4) for batch in found])
    assert len(np.unique(drawn, axis=0)) > 0.9 * len(drawn)

    if not cache:  # whose order is that of epoch 0
        part = shapes.part_of_split(SPLIT, num_shards, shard)
        expected = stream(shapes, 6 * BATCH, part, NUM // num_shards)
        sent = np.concatenate([batch.images for batch in found])
        np.testing.assert_array_equal(sent, [example["image"] for example in expected])
    else:
        labels_of = {
            image.tobytes(): label
            for batch in batches(shapes, 6)
            for image, label in zip(batch.images, batch.labels, strict=True)
        }
        for batch in found:
            assert [labels_of[image.tobytes()] for image in batch.images] == batch.labels.tolist()

    later = batches(shapes, 3, start_example=3 * BATCH, **settings)
    for ours, theirs in zip(found[3:], later, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("cache", [False, True])
def test_good_images_stand_in_for_those_that_the_device_crops(shapes, cache):
    source = WithJunk(shapes)
    found = batches(source, 5, cache=cache)  # two epochs
    assert sum(batch.skipped.sum() for batch in found) == 2 * 6
    if cache:
        return
    expected = stream(source, BATCH)
    for row in range(BATCH):
        turns = (expected[(row + n) % BATCH] for n in range(BATCH))
        example = next(example for example in turns if example["image"] is not None)
        np.testing.assert_array_equal(found[0].images[row], example["image"])
        assert found[0].labels[row] == example["label"]
        assert found[0].skipped[row] == (expected[row]["image"] is None)


@pytest.mark.parametrize("cache", [False, True])
def test_strict_names_an_image_that_the_device_would_crop(shapes, cache):
    with pytest.raises(tf.errors.InvalidArgumentError, match="example .*cannot be decoded; repair"):
        batches(WithJunk(shapes), 3, cache=cache, strict=True)


def test_which_images_the_device_crops():
    def crops(shape, image_size, train_mode="pretrain"):
        source = type("Source", (), {"image_shape": shape})
        return device_crops.crops_on_device(source, image_size=image_size, train_mode=train_mode)

    assert crops((32, 32, 3), 32) and crops((32, 32, 3), 32, "finetune")
    assert crops((45, 45, 3), 32) and not crops((45, 45, 3), 32, "finetune")
    assert not crops((None, None, 3), 32)


def test_images_of_one_size_that_cannot_be_decoded_are_found_on_the_host(shapes):
    found = batches(WithJunk(shapes), 5, augment_on_device=False)
    assert sum(batch.skipped.sum() for batch in found) == 2 * 6
    dataset = streams.evaluation(WithJunk(shapes), split=SPLIT, image_size=32, batch_size=NUM)
    ((images, _, weights, skipped),) = dataset.as_numpy_iterator()
    bad = np.flatnonzero(skipped).tolist()
    assert bad == np.flatnonzero(weights == 0).tolist() == [3, 10, 17, 24, 31, 38]
    assert not images[bad].any()
