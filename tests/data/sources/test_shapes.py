"""The shapes data set: the same bytes everywhere, and classes that only the shape tells."""

import hashlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tf_simclr.data.sources import shapes, shapes_drawing

# SHA-256 of the first 50 pictures' bytes, drawn with NumPy 1.26 on Python 3.11. A change here
# changes the data set: raise Shapes.VERSION with it.
HASHES = {
    "train": "ee6338d8f94e76a35a6ca572b8dc66d3c0fb5bbd86440a46363a413c7929aa45",
    "test": "5d0fd1a34fc612c425b7587fabea1daf6e13d8c06a3e22c77603669f04d22075",
}


@pytest.fixture(scope="module")
def pictures():
    """1,500 training and 500 test examples: {split: (images, labels)}."""
    result = {}
    for split, count in (("train", 1500), ("test", 500)):
        images, labels = zip(*(shapes.example(split, i) for i in range(count)), strict=True)
        result[split] = np.stack(images), np.array(labels)
    return result


def _coverages(count):
    """Yields (label, image, share of ink in each pixel) of `count` pictures."""
    for index in range(count):
        label = index % len(shapes.CLASS_NAMES)
        yield label, *shapes_drawing._draw(label, np.random.Generator(np.random.PCG64([7, index])))


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
    assert images.shape == (1500, 32, 32, 3) and images.dtype == np.uint8
    assert images.min() < 40 and images.max() > 235
    spread = images.reshape(len(images), -1).astype(np.float32).std(axis=1)
    assert spread.min() > 30, "a picture is nearly blank"


@pytest.mark.parametrize("split", ["train", "test"])
def test_classes_are_balanced(pictures, split):
    labels = pictures[split][1]
    np.testing.assert_array_equal(np.bincount(labels), [len(labels) // 10] * 10)
    assert shapes.NUM_TRAIN % 10 == 0 and shapes.NUM_TEST % 10 == 0


def test_no_test_picture_is_a_training_picture(pictures):
    train, test = ({image.tobytes() for image in pictures[s][0]} for s in ("train", "test"))
    assert len(train) == 1500 and len(test) == 500 and not train & test


def test_unknown_label_and_split_are_refused():
    with pytest.raises(ValueError, match=r"label must be in \[0, 10\), got 10"):
        shapes_drawing.draw(10, np.random.default_rng(0))
    with pytest.raises(ValueError, match="split must be 'train' or 'test', got 'val'"):
        shapes.example("val", 0)


def test_all_classes_print_the_same_amount_of_ink():
    shares = {name: [] for name in shapes.CLASS_NAMES}
    for label, _, ink in _coverages(500):
        shares[shapes.CLASS_NAMES[label]].append(ink.mean())
    means = {name: np.mean(share) for name, share in shares.items()}
    assert 0.15 < min(means.values()) and max(means.values()) < 0.3, means
    # Pictures of one class differ more than the means of two classes.
    assert max(means.values()) - min(means.values()) < np.std(shares["heart"]), means


def test_ink_stands_off_the_ground():
    luma = np.array([0.299, 0.587, 0.114])
    for label, image, ink in _coverages(100):
        gray = image @ luma / 255
        assert gray[ink == 1].min() - gray[ink == 0].max() > 0.35, shapes.CLASS_NAMES[label]


def test_no_shape_reaches_further_than_the_sizes_allow_for():
    axis = np.linspace(-1.5, 1.5, 301)
    grid = np.stack(np.meshgrid(axis, axis)).reshape(2, -1)
    for name, area in shapes_drawing._AREAS.items():
        inside = grid[:, shapes_drawing._distance(name, grid) < 0]
        reach = np.linalg.norm(inside, axis=0).max() / np.sqrt(area)
        assert reach <= shapes_drawing._WIDEST + 0.01, name


def test_every_picture_has_the_same_colors_in_about_the_same_shares():
    for label, image, ink in _coverages(100):
        name = shapes.CLASS_NAMES[label]
        assert np.abs(image[ink == 0] / 255 - shapes_drawing._GROUND).max() < 0.04, name
        away = np.linalg.norm(image[ink == 1][:, None] / 255 - shapes_drawing._INKS, axis=-1)
        assert away.min(axis=1).max() < 0.08, name
        assert np.bincount(away.argmin(axis=1), minlength=3).max() < 0.75 * len(away), name


def test_coverage_agrees_with_counting_points_where_a_formula_gives_the_area():
    # An independent reference: areas by formula, and of the unit shapes on a fine grid.
    axis = np.linspace(-1.5, 1.5, 301)
    grid = np.stack(np.meshgrid(axis, axis)).reshape(2, -1)
    cell = (axis[1] - axis[0]) ** 2
    expected = {
        "circle": np.pi * 0.92**2,
        "ring": np.pi * (0.97**2 - 0.51**2),
        "crescent": np.pi - _lens(1.0, 0.8, 0.48),
        "square": 1.66**2 - (4 - np.pi) * 0.03**2,
        "plus": 2 * 1.96 * 0.588 - 0.588**2 + 0.03 * 4 * 1.96,
    }
    for name, area in expected.items():
        counted = np.count_nonzero(shapes_drawing._distance(name, grid) < 0) * cell
        assert counted == pytest.approx(area, rel=0.02), name
    for name, area in shapes_drawing._AREAS.items():  # those that the drawing uses
        counted = np.count_nonzero(shapes_drawing._distance(name, grid) < 0) * cell
        assert counted == pytest.approx(area, rel=0.02), name


def _lens(first: float, second: float, distance: float) -> float:
    """Computes the area that two discs share, by the formula for circular segments."""
    area = 0.0
    for radius, other in ((first, second), (second, first)):
        chord = (distance**2 + radius**2 - other**2) / (2 * distance)
        area += radius**2 * np.arccos(chord / radius) - chord * np.sqrt(radius**2 - chord**2)
    return area


def test_no_shape_equals_another_under_rotation():
    # Sorted radii of the covered points do not change with rotation: a fingerprint.
    axis = np.linspace(-1.5, 1.5, 121)
    grid = np.stack(np.meshgrid(axis, axis)).reshape(2, -1)
    prints = []
    for name in shapes.CLASS_NAMES:
        inside = grid[:, shapes_drawing._distance(name, grid) < 0]
        radii = np.linalg.norm(inside - inside.mean(axis=1, keepdims=True), axis=0)
        prints.append(np.histogram(radii, bins=30, range=(0, 1.3))[0] / len(axis))
    for i, one in enumerate(prints):
        for j, other in enumerate(prints[:i]):
            assert np.abs(one - other).sum() > 2, (shapes.CLASS_NAMES[i], shapes.CLASS_NAMES[j])


def test_color_is_exact_in_luma_and_in_range():
    for hue, saturation, luma in np.random.default_rng(0).random((200, 3)):
        color = shapes_drawing._color(hue, saturation, luma)
        assert color @ [0.299, 0.587, 0.114] == pytest.approx(luma)
        assert -1e-9 <= color.min() and color.max() <= 1 + 1e-9


def test_raw_pixels_do_not_give_the_class_away(pictures):
    def gray(split):
        images, labels = pictures[split]
        return images.mean(axis=3).reshape(len(images), -1) / 255 - 0.3, labels

    for model in (LogisticRegression(C=1e-2, max_iter=30), KNeighborsClassifier(5)):
        assert model.fit(*gray("train")).score(*gray("test")) < 0.25, model  # chance is 0.1


def test_colors_do_not_give_the_class_away(pictures):
    def colors(split):
        images = pictures[split][0] / 255
        return np.concatenate([images.mean((1, 2)), images.std((1, 2))], axis=1)

    for model in (LogisticRegression(max_iter=200), KNeighborsClassifier(30)):
        probe = make_pipeline(StandardScaler(), model)
        probe.fit(colors("train"), pictures["train"][1])
        assert probe.score(colors("test"), pictures["test"][1]) < 0.4  # chance is 0.1


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
