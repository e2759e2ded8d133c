"""The shapes data set: the same bytes everywhere, and learnable by shape alone."""

import hashlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tf_simclr.data import shapes

# SHA-256 of the first 50 pictures' bytes, drawn with NumPy 1.26 on Python 3.11. A change here
# changes the data set: raise Shapes.VERSION with it.
HASHES = {
    "train": "5691b921a198b0a9f20152f539c9ab3f3d695404de95a0bd8bfb8eaa92555970",
    "test": "cbe8224d0985f7a107eddcc8318a7ade3f0c582dff78444f3e0cb768af46da12",
}


@pytest.fixture(scope="module")
def pictures():
    """3,000 training and 1,000 test examples: {split: (images, labels)}."""
    result = {}
    for split, count in (("train", 3000), ("test", 1000)):
        images, labels = zip(*(shapes.example(split, i) for i in range(count)), strict=True)
        result[split] = np.stack(images), np.array(labels)
    return result


def _coverages(count):
    """(label, image, coverage) of `count` pictures, seen before the coverage is thrown away."""
    for index in range(count):
        label = index % len(shapes.CLASS_NAMES)
        yield label, *shapes._draw(label, np.random.Generator(np.random.PCG64([7, index])))


@pytest.mark.parametrize("split", ["train", "test"])
def test_pictures_are_the_same_bytes_on_every_stack(split):
    digest = hashlib.sha256()
    for index in range(50):
        digest.update(shapes.example(split, index)[0].tobytes())
    assert digest.hexdigest() == HASHES[split]


def test_an_example_depends_on_split_and_index_alone():
    late = shapes.example("train", 41)
    for index in (3, 40):
        shapes.example("train", index)
    np.testing.assert_array_equal(shapes.example("train", 41)[0], late[0])
    assert np.any(shapes.example("test", 41)[0] != late[0])
    assert np.any(shapes.example("train", 51)[0] != late[0])


def test_shape_type_and_range(pictures):
    images, _ = pictures["train"]
    assert images.shape == (3000, 32, 32, 3) and images.dtype == np.uint8
    assert images.min() < 20 and images.max() > 235
    spread = images.reshape(len(images), -1).astype(np.float32).std(axis=1)
    assert spread.min() > 15, "a picture is nearly blank"


@pytest.mark.parametrize("split", ["train", "test"])
def test_classes_are_balanced(pictures, split):
    labels = pictures[split][1]
    np.testing.assert_array_equal(np.bincount(labels), [len(labels) // 10] * 10)
    assert shapes.NUM_TRAIN % 10 == 0 and shapes.NUM_TEST % 10 == 0


def test_no_test_picture_is_a_training_picture(pictures):
    train, test = ({image.tobytes() for image in pictures[s][0]} for s in ("train", "test"))
    assert len(train) == 3000 and len(test) == 1000 and not train & test


def test_unknown_label_and_split_are_refused():
    with pytest.raises(ValueError, match=r"label must be in \[0, 10\), got 10"):
        shapes.draw(10, np.random.default_rng(0))
    with pytest.raises(ValueError, match="split must be 'train' or 'test', got 'val'"):
        shapes.example("val", 0)


def test_the_shape_covers_enough_and_stands_off_the_background():
    luma = np.array([0.299, 0.587, 0.114])
    for label, image, inside in _coverages(500):
        name = shapes.CLASS_NAMES[label]
        assert 0.06 < inside.mean() < 0.75, name
        grey = image @ luma / 255
        # A drop shadow darkens the ground beside the shape, hence the medians.
        contrast = abs(np.median(grey[inside == 1]) - np.median(grey[inside == 0]))
        assert contrast > 0.2, name


def test_coverage_agrees_with_counting_points_where_a_formula_gives_the_area():
    # An independent reference: areas by formula, of the unit shapes on a fine grid.
    axis = np.linspace(-1.5, 1.5, 301)
    grid = np.stack(np.meshgrid(axis, axis)).reshape(2, -1)
    cell = (axis[1] - axis[0]) ** 2
    expected = {
        "circle": np.pi * 0.92**2,
        "ring": np.pi * (0.97**2 - 0.51**2),
        "square": 1.66**2 - (4 - np.pi) * 0.03**2,
        "plus": 2 * 1.96 * 0.588 - 0.588**2 + 0.03 * 4 * 1.96,
    }
    for name, area in expected.items():
        counted = np.count_nonzero(shapes._distance(name, grid) < 0) * cell
        assert counted == pytest.approx(area, rel=0.02), name


def test_no_shape_equals_another_under_rotation():
    # Sorted radii of the covered points do not change with rotation: a fingerprint.
    axis = np.linspace(-1.5, 1.5, 121)
    grid = np.stack(np.meshgrid(axis, axis)).reshape(2, -1)
    prints = []
    for name in shapes.CLASS_NAMES:
        inside = grid[:, shapes._distance(name, grid) < 0]
        radii = np.linalg.norm(inside - inside.mean(axis=1, keepdims=True), axis=0)
        prints.append(np.histogram(radii, bins=30, range=(0, 1.3))[0] / len(axis))
    for i, one in enumerate(prints):
        for j, other in enumerate(prints[:i]):
            assert np.abs(one - other).sum() > 2, (shapes.CLASS_NAMES[i], shapes.CLASS_NAMES[j])


def test_colour_is_exact_in_luma_and_in_range():
    for hue, saturation, luma in np.random.default_rng(0).random((200, 3)):
        colour = shapes._colour(hue, saturation, luma)
        assert colour @ [0.299, 0.587, 0.114] == pytest.approx(luma)
        assert -1e-9 <= colour.min() and colour.max() <= 1 + 1e-9


def test_raw_pixels_do_not_give_the_class_away(pictures):
    def flat(split):
        return pictures[split][0].reshape(len(pictures[split][0]), -1) / 255 - 0.5

    model = LogisticRegression(C=1e-3, max_iter=40).fit(flat("train"), pictures["train"][1])
    assert model.score(flat("test"), pictures["test"][1]) < 0.25


def test_colours_do_not_give_the_class_away(pictures):
    def colours(split):
        images = pictures[split][0] / 255
        return np.concatenate([images[:, 0, 0], images.mean((1, 2)), images.std((1, 2))], axis=1)

    for model in (LogisticRegression(max_iter=200), KNeighborsClassifier(30)):
        probe = make_pipeline(StandardScaler(), model)
        probe.fit(colours("train"), pictures["train"][1])
        assert probe.score(colours("test"), pictures["test"][1]) < 0.22  # chance is 0.1


def test_the_outline_gives_the_class_away():
    # Without colour and texture, moments that ignore position, size and rotation suffice.
    def moments(inside):
        y, x = np.mgrid[:32, :32] + 0.5
        mass = inside.sum()
        z = (x - (inside * x).sum() / mass) + 1j * (y - (inside * y).sum() / mass)
        z = z / np.sqrt((inside * abs(z) ** 2).sum() / mass)
        angular = [abs((inside * z**k).sum()) / mass for k in (2, 3, 4, 5)]
        radial = [(inside * abs(z) ** k).sum() / mass for k in (1, 3, 4)]
        return [*angular, *radial, mass / (abs(z) < 1.2).sum()]

    seen = [(label, moments(inside)) for label, _, inside in _coverages(1500)]
    labels, features = np.array([s[0] for s in seen]), np.array([s[1] for s in seen])
    model = make_pipeline(StandardScaler(), KNeighborsClassifier(5))
    model.fit(features[:1000], labels[:1000])
    assert model.score(features[1000:], labels[1000:]) > 0.8


def test_prepare_writes_what_example_draws(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(shapes, "NUM_TRAIN", 40)
    monkeypatch.setattr(shapes, "NUM_TEST", 20)
    builder = shapes.prepare(tmp_path)
    assert "Drawing the shapes data set (60 images) ..." in capfd.readouterr().out
    assert builder.info.splits["train"].num_examples == 40
    assert builder.info.splits["test"].num_examples == 20
    assert tuple(builder.info.features["label"].names) == shapes.CLASS_NAMES
    for split, count in (("train", 40), ("test", 20)):
        read = list(tfds.as_numpy(builder.as_dataset(split=split)))
        written = {e["image"].tobytes(): int(e["label"]) for e in read}
        drawn = {
            i.tobytes(): label for i, label in (shapes.example(split, k) for k in range(count))
        }
        assert written == drawn
    shapes.prepare(tmp_path)
    assert "Drawing" not in capfd.readouterr().out


def test_a_failed_preparation_leaves_nothing_to_read(tmp_path, monkeypatch):
    def fail(split, index):
        raise KeyboardInterrupt

    monkeypatch.setattr(shapes, "example", fail)
    with pytest.raises(KeyboardInterrupt):
        shapes.prepare(tmp_path)
    assert not shapes.Shapes(data_dir=tmp_path).is_prepared()


def test_an_unprepared_builder_does_not_ask_the_network(tmp_path, monkeypatch):
    from tensorflow_datasets.core.utils import gcs_utils

    def fail(*args, **kwargs):
        raise AssertionError("asked Google's bucket")

    monkeypatch.setattr(gcs_utils, "exists", fail)
    monkeypatch.setattr(gcs_utils, "gcs_dataset_info_files", fail)
    assert not shapes.Shapes(data_dir=tmp_path).is_prepared()
