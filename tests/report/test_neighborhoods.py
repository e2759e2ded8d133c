"""Neighbors and confusions, compared with literal loops and with scikit-learn."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from tf_simclr.errors import ConfigError
from tf_simclr.probes import knn
from tf_simclr.probes.features import PRETRAINED, RAW_PIXELS, UNTRAINED, Features
from tf_simclr.report.images import confusion, encoded_images, neighborhoods
from tf_simclr.report.images.encoded_images import Options
from tf_simclr.report.images.image_sets import ImageSet

CLASSES = ("<script>alert(1)</script>", "b\tc", "ø")


def image_set(split="test", count=30, *, seed=0, labels=True, predictions=False, width=6):
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, count) if labels else np.full(count, -1)
    features = Features(
        {
            RAW_PIXELS: rng.integers(0, 256, (count, 4, 4, 3), np.uint8),
            UNTRAINED: rng.normal(size=(count, width)).astype(np.float32),
            PRETRAINED: (rng.normal(size=(count, width)) + 2 * classes[:, None] % 5).astype("f4"),
        },
        classes,
        positions=np.arange(count),
        predictions=rng.integers(0, 3, count) if predictions else None,
    )
    return ImageSet(split, count, features, tuple(f"{split} {i}" for i in range(count)))


def summarize(train, test, class_names=CLASSES, **options):
    return encoded_images.summarize(
        train,
        test,
        class_names,
        checkpoint="ckpt-1",
        dataset="shapes",
        options=Options(**options),
    )


def cosine(a, b):
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def literal_nearest(train, test, k, *, excluded=lambda i, j: False):
    """The k nearest by sorting all similarities, one pair at a time."""
    rows = []
    for i, query in enumerate(test):
        others = [j for j in range(len(train)) if not excluded(i, j)]
        rows.append(sorted(others, key=lambda j: -cosine(query, train[j]))[:k])
    return np.array(rows)


def test_precision_and_neighbors_are_those_of_a_literal_loop():
    train, test = image_set("train", 40, seed=1), image_set("test", 25, seed=2)
    images, notes = summarize(train, test, num_neighbors=5, num_random=4, queries=("test 7",))
    shown = images.neighbors
    assert notes == [] and images.data == "shapes, split test: 25 images"
    assert shown.encoders == ("raw pixels", "before training", "after training")
    assert shown.searched == "40 training images" and shown.num_neighbors == 5
    names = [shown.names[i] for i in shown.queries]
    assert names[0] == f"test 7 ({CLASSES[test.labels[7]]})"
    assert len(set(names)) == len(names) in (7, 8)  # one of each class may be the wanted one
    for e, encoder in enumerate((RAW_PIXELS, UNTRAINED, PRETRAINED)):
        expected = literal_nearest(
            train.features.matrix(encoder).astype(float),
            test.features.matrix(encoder).astype(float),
            5,
        )
        hits = sum(
            int(train.labels[j] == test.labels[i]) for i, row in enumerate(expected) for j in row
        )
        assert shown.precision[e] == pytest.approx(hits / (25 * 5))
        for q, name in enumerate(names):
            row = int(name.split()[1])
            expected_names = [f"train {j} ({CLASSES[train.labels[j]]})" for j in expected[row]]
            assert [shown.names[i] for i in shown.nearest[e, q]] == expected_names
            np.testing.assert_array_equal(
                shown.hits[e, q], train.labels[expected[row]] == test.labels[row]
            )
    assert shown.thumbnails.count == len(shown.names)
    # The neighbors that a training run knows already give the same content.
    nearest = {
        name: neighborhoods.neighbors.nearest(
            train.features.matrix(name), test.features.matrix(name), 5
        )
        for name in (RAW_PIXELS, UNTRAINED, PRETRAINED)
    }
    again, _ = encoded_images.summarize(
        train,
        test,
        CLASSES,
        checkpoint="ckpt-1",
        dataset="shapes",
        nearest=nearest,
        options=Options(num_neighbors=5, num_random=4, queries=("test 7",)),
    )
    np.testing.assert_array_equal(again.neighbors.nearest, shown.nearest)
    assert again.neighbors.precision == shown.precision


def test_an_image_is_not_its_own_neighbor():
    images = image_set("train", 20)
    found = neighborhoods.search(images, images, {PRETRAINED: "after"}, count=4)
    features = images.features.matrix(PRETRAINED).astype(float)
    expected = literal_nearest(features, features, 4, excluded=lambda i, j: i == j)
    np.testing.assert_array_equal(found.nearest["after"], expected)
    assert found.searched == "the other 19 images of split train"
    own = neighborhoods.itself(images, images)
    votes = knn.predict(features, images.labels, features, count=4, itself=own, temperature=0.1)
    for i, row in enumerate(expected):
        scores = np.zeros(3)
        for j in row:
            scores[images.labels[j]] += np.exp(cosine(features[i], features[j]) / 0.1)
        assert votes[i] == scores.argmax()


def test_confusions_are_those_of_scikit_learn():
    train, test = image_set("train", 60, seed=1), image_set("test", 40, predictions=True)
    by_head = summarize(train, test)[0].confusion
    assert by_head.classifier == "supervised head" and by_head.class_names == CLASSES
    np.testing.assert_array_equal(
        by_head.counts, confusion_matrix(test.labels, test.features.predictions, labels=range(3))
    )
    without = dataclasses.replace(test.features, predictions=None)
    by_vote = summarize(train, dataclasses.replace(test, features=without))[0].confusion
    assert by_vote.classifier == "20 nearest neighbors"
    votes = knn.predict(
        train.features.matrix(PRETRAINED),
        train.labels,
        test.features.matrix(PRETRAINED),
        count=20,
    )
    np.testing.assert_array_equal(
        by_vote.counts, confusion_matrix(test.labels, votes, labels=range(3))
    )
    ranks = knn.classify(
        train.features.matrix(PRETRAINED),
        train.labels,
        test.features.matrix(PRETRAINED),
        test.labels,
    )[20]
    assert by_vote.counts.trace() == (ranks == 0).sum()
    assert confusion.count(test.labels, test.labels, range(1000), classifier="x").counts.sum() == 40


def test_images_without_labels_have_clusters_and_no_figures_of_classes():
    train, test = image_set("train", 20, labels=False), image_set("test", 50, labels=False)
    for class_names in (None, CLASSES):
        images, notes = summarize(train, test, class_names)
        assert images.confusion is None and images.neighbors.hits is None
        assert images.neighbors.precision == () and len(images.neighbors.queries) == 6
        assert images.map.grouped_by == "cluster" and images.map.group_names[0] == "cluster 1"
        assert images.map.groups.min() == 0
        assert len(notes) == (class_names is not None)


def test_images_without_a_label_among_others_are_on_the_map_only():
    train, test = image_set("train", 30, seed=1), image_set("test", 30)
    for part in (train, test):
        part.labels[::3] = -1
    images, _ = summarize(train, test)
    assert (images.map.groups < 0).sum() == 10 and len(images.map.names) == 30
    assert all("(" in name for name in images.neighbors.names)
    assert images.confusion.counts.sum() == 20 and images.neighbors.searched.startswith("20 of 30")
    with pytest.raises(ConfigError, match="'test 0' cannot be decoded, or has no label"):
        summarize(train, test, queries=("test 0",))


def test_names_are_not_changed_and_one_class_is_enough():
    train, test = image_set("train", 12, seed=1), image_set("test", 12)
    for part in (train, test):
        part.labels[:] = 0
    images, _ = summarize(train, test)
    assert images.map.group_names == CLASSES[:1]
    assert images.neighbors.precision == (1, 1, 1)
    assert f"test 0 ({CLASSES[0]})" in images.neighbors.names
    assert images.confusion.class_names == CLASSES


def test_collapsed_features_are_shown_as_what_they_are():
    train, test = image_set("train", 12, seed=1), image_set("test", 12)
    for part in (train, test):
        part.features.arrays[PRETRAINED][:] = 0.25
    images, notes = summarize(train, test)
    assert np.isfinite(images.map.coordinates).all() and "the same" in images.map.method
    assert any("collapsed" in note for note in notes)


def test_features_that_are_not_finite_are_left_out():
    train, test = image_set("train", 12, seed=1), image_set("test", 12, predictions=True)
    train.features.arrays[UNTRAINED][3, 1] = np.inf
    test.features.predictions[2] = -1
    images, notes = summarize(train, test)
    assert images.neighbors.encoders == ("raw pixels", "after training")
    assert images.confusion.classifier == "12 nearest neighbors"
    assert "before training" in notes[0] and "logits are not finite" in notes[1]
    test.features.arrays[PRETRAINED][0] = np.nan
    images, notes = summarize(train, test)
    assert images.map is None and images.neighbors is None and images.confusion is None
    assert "after training" in notes[1]


def test_one_image_alone():
    alone = image_set("train", 1)
    images, notes = summarize(alone, alone)
    assert images.map.coordinates.tolist() == [[0.5, 0.5]]
    assert images.neighbors is None and images.confusion is None
    assert "no other image" in " ".join(notes)


def test_a_map_of_a_sample_is_the_same_each_time():
    test = image_set("test", 60)
    first, second = (summarize(None, test, max_on_map=20)[0].map for _ in range(2))
    assert first.names == second.names and len(first.names) == 20
    assert int(first.names[-1].split()[1]) > 40  # spread over the split
    np.testing.assert_array_equal(first.coordinates, second.coordinates)
    labels = test.labels[[int(name.split()[1]) for name in first.names]]
    np.testing.assert_array_equal(first.groups, labels)
