"""--dataset=folder on files of every make: the good ones used, all others counted, none fatal."""

import os

import numpy as np
import pytest
from PIL import Image

import hostile_pictures
import streams
from hostile_pictures import BLUE, RED, halves, noise, saved
from tf_simclr.config import ConfigError
from tf_simclr.data import errors, folder, image_files, pipeline

GRAYS = [(32, 32, 32), (191, 191, 191)]  # 0x2000 and 0xC000 of 0xFFFF, of 255
USED, LEFT_OUT, BROKEN = (
    hostile_pictures.used(), hostile_pictures.left_out(), hostile_pictures.broken()
)  # fmt: skip
NUM_TRICKS = 3  # a folder deeper, a name that is not UTF-8, the class other


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return hostile_pictures.make(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def source(root):
    return folder.open_folder(str(root), unlabelled=False)


def test_there_are_enough_of_them():
    assert len(USED) + len(LEFT_OUT) + len(BROKEN) >= 50
    assert len(LEFT_OUT) + len(BROKEN) >= 20


@pytest.mark.parametrize("name", USED)
def test_pixels(name):
    image = image_files.pixels(USED[name])
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    height, width = image.shape[:2]
    left, right = GRAYS if name == "gray_16.png" else (RED, BLUE)
    first, last = image[height // 2, 1], image[height // 2, -2]
    if name in ("turned_6.jpg", "turned_8.jpg"):  # EXIF 6: turn clockwise, 8: the other way
        assert (height, width) == (24, 16)
        first, last = image[1, width // 2], image[-2, width // 2]
    if name in ("turned_2.jpg", "turned_3.jpg", "turned_8.jpg"):
        left, right = right, left
    tolerance = 0 if name.endswith(("png", "bmp", "gif")) and "jpg" not in name else 24
    tolerance = 6 if "palette" in name or name.endswith("gif") else tolerance
    np.testing.assert_allclose(first.astype(int), left, atol=tolerance)
    np.testing.assert_allclose(last.astype(int), right, atol=tolerance)


def test_what_is_transparent_lies_on_white():
    image = halves().convert("RGBA")
    image.putalpha(0)
    for settings in (dict(format="PNG"), dict(format="WEBP", lossless=True)):
        np.testing.assert_array_equal(image_files.pixels(saved(image, **settings)), 255)
    palette = halves().quantize(4)
    content = saved(palette, format="GIF", transparency=palette.getpixel((0, 0)))
    found = image_files.pixels(content)
    assert found[8, 1].tolist() == [255] * 3 and found[8, -2].tolist() != [255] * 3


@pytest.mark.parametrize("name", [*LEFT_OUT, *BROKEN])
def test_what_is_no_picture_is_an_error(name):
    content = BROKEN.get(name) or LEFT_OUT[name][0]
    with pytest.raises((OSError, ValueError, SyntaxError, Image.DecompressionBombError)):
        image_files.pixels(content)


def test_all_files_are_counted_and_the_good_ones_used(source, root):
    assert source.num_examples("train") == len(USED) + len(BROKEN) + NUM_TRICKS
    assert source.num_examples("test") == 1
    assert source.class_names == ("halves", "other") and source.num_classes == 2
    expected = {}
    for _, reason in LEFT_OUT.values():
        expected[reason] = expected.get(reason, 0) + 1
    assert source.left_out == expected | {"not readable": 1}  # a link to nowhere
    line = str(source)
    assert "\n" not in line and "pictures in 2 classes (test 1, train " in line
    assert f"{expected['not a picture']} not a picture" in line
    assert "2 smaller than 8 pixels" in line and "2 larger than 8000 pixels" in line
    paths = [e["id"].numpy() for e in source.encoded_examples("train", with_id=True)]
    assert len(set(paths)) == len(paths)
    assert any(path.endswith(b"not_utf8_\xff.png") for path in paths)


def test_evaluation_counts_what_cannot_be_decoded(source):
    total = source.num_examples("train")
    batches = pipeline.eval_batches(
        source, split="train", image_size=16, batch_size=16, strict=False
    )
    weights, skipped, labels = [], [], []
    for _, label, weight, skip in batches:
        weights.append(weight.numpy())
        skipped.append(skip.numpy())
        labels.append(label.numpy())
    assert np.concatenate(skipped).sum() == len(BROKEN)
    good = np.concatenate(weights)
    assert good.sum() == total - len(BROKEN)
    assert np.concatenate(labels)[good > 0].sum(axis=0).tolist() == [good.sum() - 1, 1]


@pytest.mark.parametrize("train_mode, views", [("pretrain", 2), ("finetune", 1)])
def test_training_goes_on_with_stand_ins(source, train_mode, views):
    total = source.num_examples("train")
    batches = streams.train(
        source, split="train", train_mode=train_mode, image_size=16, batch_size=total,
        global_batch_size=total, color_jitter_strength=0.5, cache=False, seed=1,
    )  # fmt: skip
    for images, labels, skipped in batches.take(2):
        assert images.shape == (total, views, 16, 16, 3)
        assert np.isfinite(images.numpy()).all() and images.numpy().std() > 0.05
        assert skipped.numpy().sum() == len(BROKEN)
        assert labels.numpy().sum() == total


def test_strict_names_the_file(source):
    batches = pipeline.eval_batches(
        source, split="train", image_size=16, batch_size=16, strict=True
    )
    with pytest.raises(errors.UndecodableError, match="halves/.* cannot be decoded"):
        with errors.in_one_line():
            list(batches)


def read(source, split, **settings) -> list[bytes]:
    return [e["id"].numpy() for e in source.encoded_examples(split, with_id=True, **settings)]


def test_order_is_a_function_of_the_seed(source):
    plain = read(source, "train")
    first = read(source, "train", shuffle_files=True, seed=2**40 + 7)
    assert first == read(source, "train", shuffle_files=True, seed=2**40 + 7) != plain
    assert sorted(first) == sorted(plain)
    assert first != read(source, "train", shuffle_files=True, seed=8)
    assert read(source, "train", seed=8) == plain


def test_slices_and_parts(source):
    plain = read(source, "train")
    assert read(source, "train[3:9]") == plain[3:9]
    assert read(source, "test+train[:2]") == read(source, "test") + plain[:2]
    parts = [source.part("train", 3, i) for i in range(3)]
    assert sum((read(source, part) for part in parts), []) == plain
    for split, message in (("val", "use one of test, train"), ("train[:0]", "is empty in folder")):
        with pytest.raises(ConfigError, match=message):
            source.num_examples(split, flag="eval_split")


def test_unlabelled_takes_them_from_anywhere(root, capsys):
    everything = folder.open_folder(str(root), unlabelled=True)
    assert everything.num_classes is None and everything.class_names is None
    assert list(everything.splits) == ["train"]
    assert everything.num_examples("train") == len(USED) + len(BROKEN) + NUM_TRICKS + 1
    labels = {int(e["label"]) for e in everything.encoded_examples("train")}
    assert labels == {-1}
    assert "classes" not in capsys.readouterr().err


def test_classes_are_those_of_all_splits(tmp_path):
    picture = {"a.png": saved(noise(16), format="PNG")}
    for place in ("train/b", "train/c", "test/a", "test/c"):
        hostile_pictures.write(tmp_path / place, picture)
    hostile_pictures.write(tmp_path / "train", {"stray.png": picture["a.png"], "notes.txt": b"x"})
    source = folder.open_folder(str(tmp_path), unlabelled=False)
    assert source.class_names == ("a", "b", "c")
    assert sorted(int(e["label"]) for e in source.encoded_examples("train")) == [1, 2]
    assert sorted(int(e["label"]) for e in source.encoded_examples("test")) == [0, 2]
    assert source.left_out == {"not in SPLIT/CLASS/": 1, "not a picture": 1}


def test_what_cannot_be_opened_is_refused_in_one_line(tmp_path):
    hostile_pictures.write(tmp_path / "flat", {"a b.png": saved(noise(16), format="PNG")})
    hostile_pictures.write(tmp_path / "none", {"a.png": b"no", "b.txt": b"no"})
    os.mkdir(tmp_path / "empty")
    for directory, words in (
        (str(tmp_path / "flat"), "1 pictures, but none in SPLIT/CLASS/ such as train/cat/ (the "
                                 "first is a b.png): sort them so, or pretrain without labels by "
                                 "--unlabelled"),
        (str(tmp_path / "none"), "has no picture (JPEG, PNG, WebP, BMP or GIF) among its 2 files"),
        (str(tmp_path / "empty"), "among its 0 files"),
        (None, "data_dir must be given with dataset=folder"),
        ("gs://bucket/pictures", "must be a folder of this machine"),
    ):  # fmt: skip
        with pytest.raises(ConfigError) as error:
            folder.open_folder(directory, unlabelled=False)
        assert words in str(error.value) and "\n" not in str(error.value)
