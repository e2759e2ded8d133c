"""label_fraction: the same share of every class, in whatever order the data are read."""

import collections
import dataclasses

import numpy as np
import pytest

import streams
from tf_simclr.data.sources import label_subset, tfds_source
from tf_simclr.errors import ConfigError

SPLIT = "train[:400]"  # of shapes: its ten classes differ in size


@pytest.fixture(scope="module")
def source(shapes_dir):
    return tfds_source.open_source("shapes", str(shapes_dir))


@pytest.fixture(scope="module")
def limited(source):
    """Returns a function: settings -> a subset of a quarter of SPLIT."""

    def make(**settings):
        defaults = dict(split=SPLIT, fraction=0.25, seed=0, flag="train_split")
        return label_subset.ClassBalancedSubset(source, **(defaults | settings))

    return make


def ids(dataset) -> list[bytes]:
    return [example["id"].numpy() for example in dataset]


def read(source, split=SPLIT, **settings) -> list[bytes]:
    return ids(source.encoded_examples(split, with_id=True, **settings))


def counts(source, split=SPLIT) -> dict[int, int]:
    return collections.Counter(int(e["label"]) for e in source.encoded_examples(split))


def test_each_class_has_its_share(source, limited):
    everything, left = counts(source), counts(limited())
    assert len(set(everything.values())) > 1
    assert left == {label: max(1, round(count / 4)) for label, count in everything.items()}
    assert limited().num_examples(SPLIT) == sum(left.values())


def test_at_least_one_of_each_class(source, limited):
    tiny = limited(fraction=1e-6)
    assert counts(tiny) == dict.fromkeys(counts(source), 1)
    assert tiny.num_examples(SPLIT) == source.num_classes


def test_the_choice_goes_by_the_seed_and_nothing_else(source, limited):
    first = set(read(limited()))
    assert first == set(read(limited())) < set(read(source))
    assert first == set(read(limited(), shuffle_files=True, seed=5))
    assert first != set(read(limited(seed=1)))


def test_examples_and_their_order_are_those_of_the_data_set(source, limited):
    small = limited()
    chosen = set(read(small))
    expected = [
        (e["image"].numpy(), int(e["label"]))
        for e in source.encoded_examples(SPLIT, with_id=True)
        if e["id"].numpy() in chosen
    ]
    found = list(small.encoded_examples(SPLIT))
    assert [(e["image"].numpy(), int(e["label"])) for e in found] == expected
    assert set(found[0]) == {"image", "label"}


def test_other_splits_are_whole(source, limited):
    small = limited()
    assert small.num_examples("test[:30]") == 30
    assert read(small, "test[:30]") == read(source, "test[:30]")


def test_parts_are_disjoint_and_together_the_subset(limited):
    small = limited()
    parts = [small.part_of_split(SPLIT, 3, index) for index in range(3)]
    found = [read(small, part) for part in parts]
    assert [small.num_examples(part) for part in parts] == [len(ids) for ids in found]
    assert sorted(sum(found, [])) == sorted(read(small))
    assert min(len(ids) for ids in found) > 10


def test_a_part_of_which_nothing_is_left_is_refused(limited):
    small = limited(fraction=1e-6)
    expected = "label_fraction leaves nothing of --train_split=.*of 200"
    with pytest.raises(ConfigError, match=expected):
        for index in range(200):
            small.part_of_split(SPLIT, 200, index, flag="train_split")


def test_parts_of_it_are_not_evaluated_which_must_be_of_one_size(limited):
    with pytest.raises(ConfigError, match="eval_split must not be .* label_fraction limits"):
        limited().part_of_split(SPLIT, 2, 0, flag="eval_split")
    assert limited().part_of_split(SPLIT, 1, 0, flag="eval_split")


@pytest.mark.parametrize("cache", [False, True])
def test_training_batches_hold_the_subset_once_an_epoch(limited, cache):
    small = limited()
    total = small.num_examples(SPLIT)
    batches = streams.train(
        small,
        split=SPLIT,
        train_mode="finetune",
        image_size=8,
        batch_size=total,
        global_batch_size=total,
        color_jitter_strength=0.5,
        cache=cache,
        seed=1,
    )
    expected = [counts(small)[label] for label in range(small.num_classes)]
    for _, labels, _ in batches.take(2):
        np.testing.assert_array_equal(labels.numpy().sum(axis=0), expected)


def test_without_labels_there_is_nothing_to_balance(source):
    unlabelled = dataclasses.replace(source, num_classes=None, class_names=None)
    with pytest.raises(ConfigError, match="label_fraction must be 1 with dataset shapes"):
        label_subset.ClassBalancedSubset(unlabelled, split=SPLIT, fraction=0.5, seed=0, flag="x")


def test_examples_without_a_label_are_left_out(source, limited, monkeypatch):
    hashes, labels = limited()._read(SPLIT, flag="train_split")
    monkeypatch.setattr(
        label_subset.ClassBalancedSubset,
        "_read",
        lambda self, split, flag: (hashes, np.where(labels < 5, -1, labels)),
    )
    assert set(counts(limited())) == {5, 6, 7, 8, 9}
    monkeypatch.setattr(
        label_subset.ClassBalancedSubset,
        "_read",
        lambda self, split, flag: (hashes, np.full_like(labels, -1)),
    )
    with pytest.raises(ConfigError, match="label_fraction must be 1 with --train_split=train.*400"):
        limited()


def test_a_split_that_holds_examples_twice_is_refused(limited):
    with pytest.raises(ConfigError, match="which contains examples twice: name each example once"):
        limited(split="train[:40]+train[30:50]")
