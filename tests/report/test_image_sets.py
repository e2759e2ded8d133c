"""Encoded images: features, thumbnails, labels and names that belong together, in any source."""

import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import partly_labeled
from tf_simclr.config import Config
from tf_simclr.data.sources import folder, tfds_source
from tf_simclr.data.sources.label_subset import ClassBalancedSubset
from tf_simclr.data.sources.selection import SelectedSource, choose_positions
from tf_simclr.errors import ConfigError
from tf_simclr.probes.features import PRETRAINED, RAW_PIXELS
from tf_simclr.report.images import image_sets

CONFIG = Config().replace(image_size=16, eval_batch_size=5)


def encoder(images, training):
    """The mean color as features, and logits that predict class 1."""
    assert training is False
    logits = tf.one_hot(tf.ones(tf.shape(images)[0], tf.int32), 3)
    return {"final_avg_pool": tf.reduce_mean(images, axis=[1, 2]), "logits_sup": logits}


def color_of(name: str) -> tuple[int, int, int]:
    """The color of the image with a name, such as "0017_x.png"."""
    number = int(os.path.basename(name)[:4])
    return 10 * number % 256, 255 - 5 * number, 7 * number % 256


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> str:
    """26 images in two classes, of which one cannot be decoded and one has an odd name."""
    root = tmp_path_factory.mktemp("images")
    for number in range(26):
        path = root / "test" / ("<b>" if number % 2 else "a") / f"{number:04}_x.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), color_of(path.name)).save(path)
    broken = root / "test" / "a" / "0006_x.png"
    broken.write_bytes(broken.read_bytes()[:48])
    os.rename(
        os.fsencode(root / "test" / "a" / "0008_x.png"),
        os.fsencode(root / "test/a") + b"/0008_\xff.png",
    )
    return str(root)


def encode(source, split="test", **kwargs):
    return image_sets.encode(CONFIG, source, {PRETRAINED: encoder}, split, **kwargs)


def check_belong_together(images):
    expected = np.array([color_of(name) for name in images.names])
    np.testing.assert_allclose(images.features.matrix(PRETRAINED), expected / 255, atol=0.01)
    np.testing.assert_array_equal(images.thumbnails[:, 8, 8], expected)
    np.testing.assert_array_equal(images.features.arrays[RAW_PIXELS][:, 8, 8], expected)


@pytest.mark.parametrize("count", [100, 12])
def test_names_labels_and_features_belong_together(directory, count):
    source = folder.open_folder(directory, unlabelled=False)
    images = encode(source, count=count, predictions_of=PRETRAINED)
    check_belong_together(images)
    assert images.total == 26
    assert len(images) == min(26, count) - images.features.skipped
    if count == 100:
        assert images.features.skipped == 1 and "test/a/0008_\\xff.png" in images.names
        assert images.describe() == "25 of 26 images"
    assert source.class_names == ("<b>", "a")
    expected = [source.class_names.index(name.split("/")[1]) for name in images.names]
    np.testing.assert_array_equal(images.labels, expected)
    assert set(expected) == {0, 1}
    assert (images.features.predictions == 1).all()
    part = images.take(np.array([3, 1]))
    assert part.names == (images.names[3], images.names[1])
    check_belong_together(part)


def test_images_without_labels(directory):
    source = folder.open_folder(directory, unlabelled=True)
    images = encode(source, "train")
    assert len(images) == 25 and not images.has_labels and (images.labels == -1).all()
    check_belong_together(images)


def test_wanted_images_are_in_the_sample(directory):
    source = folder.open_folder(directory, unlabelled=False)
    names = ["0017_x.png", "test/a/0002_x.png"]
    positions = image_sets.find_positions(source, "test", names)
    images = encode(source, count=3, wanted=positions)
    assert {"test/<b>/0017_x.png", "test/a/0002_x.png"} <= set(images.names)
    assert image_sets.full_names(images, names) == ["test/<b>/0017_x.png", "test/a/0002_x.png"]
    check_belong_together(images)
    with pytest.raises(ConfigError, match="'0099_x.png' is not an image of split test"):
        image_sets.find_positions(source, "test", ["0099_x.png"])


def test_a_wanted_image_that_cannot_be_decoded_is_named_so(directory):
    source = folder.open_folder(directory, unlabelled=False)
    names = ["a/0006_x.png"]
    positions = image_sets.find_positions(source, "test", names)
    images = encode(source, count=3, wanted=positions)
    with pytest.raises(ConfigError, match="'a/0006_x.png' is .* that cannot be decoded"):
        image_sets.full_names(images, names)


def test_a_data_set_with_missing_labels_keeps_its_order(tmp_path):
    builder = partly_labeled.PartlyLabeled(data_dir=str(tmp_path))
    builder.download_and_prepare()
    source = tfds_source.open_source("partly_labeled", str(tmp_path))
    images = encode(source, "train", count=20)
    assert len(images) == 20 and images.describe() == "20 of 48 images"
    by_name = dict(
        zip(images.names, zip(images.labels, images.thumbnails, strict=True), strict=True)
    )
    seen = set()
    for position, example in enumerate(source.examples("train")):
        if (name := f"train {position}") in by_name:
            label, thumbnail = by_name[name]
            assert label == int(example["label"])
            assert abs(float(thumbnail.mean()) - float(example["image"].numpy().mean())) < 4
            seen.add(name)
    assert seen == set(images.names) and -1 in images.labels
    assert image_sets.overlap(source, "train[:50%]", "train[10:30]")
    assert not image_sets.overlap(source, "train[:10]+test", "train[10:]")
    # A fraction of the labels names its images as the data set does.
    subset = ClassBalancedSubset(source, split="train", fraction=0.3, seed=0, flag="train_split")
    names = subset.example_names("train", range(subset.num_examples("train")))
    labels = [int(example["label"]) for example in subset.encoded_examples("train")]
    all_labels = [int(example["label"]) for example in source.encoded_examples("train")]
    assert [all_labels[int(name.split()[1])] for name in names] == labels


@pytest.mark.long
def test_a_sample_is_spread_over_the_split_and_always_the_same(shapes_dir):
    source = tfds_source.open_source("shapes", str(shapes_dir))
    positions = choose_positions(source, "test", 100, wanted=[1])
    assert positions == choose_positions(source, "test", 100, wanted=[1]) and 1 in positions
    assert len(set(positions)) == len(positions) in (100, 101)
    counts, _ = np.histogram(positions, bins=4, range=(0, 2000))
    assert counts.min() >= 10
    sample = SelectedSource(source, "test", positions)
    labels = [int(example["label"]) for example in sample.encoded_examples("test")]
    expected = [int(example["label"]) for example in source.encoded_examples("test")]
    assert labels == [expected[position] for position in positions]
    assert sample.num_examples("test") == len(positions) and sample.num_examples("train") > 2000
    assert sample.example_names("test", [0]) == [f"test {positions[0]}"]
