"""A sample of a split: of all classes, the same at each reading, and in parts."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.data.sources.folder import FolderSource
from tf_simclr.data.sources.random_sample import RandomSample


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """60 images of each of four classes, colored by class and number."""
    directory = tmp_path_factory.mktemp("sorted")
    for label in range(4):
        (directory / "train" / f"class{label}").mkdir(parents=True)
        for i in range(60):
            pixel = tf.fill((16, 16, 1), 1) * tf.constant([label, i, 0])
            path = directory / "train" / f"class{label}" / f"{i:03}.png"
            path.write_bytes(tf.io.encode_png(tf.cast(pixel, tf.uint8)).numpy())
    return FolderSource(str(directory), unlabelled=False)


def read(source, split="train", **options):
    """[(label, red, green)] of the examples of a split."""
    examples = source.encoded_examples(split, **options)
    pixels = examples.map(lambda e: (e["label"], source.decode(e["image"])[0, 0, :2]))
    return [(int(label), *map(int, pixel)) for label, pixel in pixels.as_numpy_iterator()]


def test_a_folder_sorted_by_class_gives_images_of_all_classes(folder):
    sample = RandomSample(folder, split="train", count=40, seed=1)
    examples = read(sample)
    assert sample.num_examples("train") == len(examples) == len(set(examples)) == 40
    assert all(label == pixel for label, pixel, _ in examples)
    counts = collections.Counter(label for label, *_ in examples)
    assert len(counts) == 4 and max(counts.values()) < 25
    assert len({number for *_, number in examples}) > 20


def test_the_sample_does_not_depend_on_how_it_is_read(folder):
    sample = RandomSample(folder, split="train", count=40, seed=1)
    expected = read(sample)
    assert read(sample, shuffle_files=True, seed=7) == expected
    assert read(sample, with_id=True) == expected
    assert read(RandomSample(folder, split="train", count=40, seed=2)) != expected


def test_a_sample_of_all_is_all(folder):
    sample = RandomSample(folder, split="train", count=240, seed=1)
    assert sorted(read(sample)) == sorted(read(folder))


@pytest.mark.parametrize("count, sizes", [(41, [14, 14, 13]), (240, [80, 80, 80])])
def test_parts_are_disjoint_samples(folder, count, sizes):
    sample = RandomSample(folder, split="train", count=count, seed=1)
    parts = [sample.part_of_split("train", 3, i) for i in range(3)]
    assert [sample.num_examples(part) for part in parts] == sizes
    examples = [read(sample, part) for part in parts]
    assert [len(part) for part in examples] == sizes
    assert len(set().union(*examples)) == count


def test_other_splits_are_as_they_were(folder):
    sample = RandomSample(folder, split="train[:50%]", count=10, seed=1)
    assert sample.num_examples("train") == 240
    assert read(sample) == read(folder)
    shuffled = read(sample, shuffle_files=True, seed=3)
    assert shuffled == read(folder, shuffle_files=True, seed=3)
    assert np.shape(read(sample, "train[:50%]")) == (10, 3)
