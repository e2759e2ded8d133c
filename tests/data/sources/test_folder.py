"""--dataset=folder with all kinds of files: good ones are used, bad ones counted, none is fatal."""

import os
import struct

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import hostile_pictures
import streams
from hostile_pictures import BLUE, RED, halves, noise, saved
from tf_simclr.data import errors
from tf_simclr.data.pipeline import batches
from tf_simclr.data.sources import folder, image_decoding, image_files, image_kinds
from tf_simclr.data.sources.image_range import ImageRange
from tf_simclr.errors import ConfigError

GRAYS = [(32, 32, 32), (191, 191, 191)]  # 0x2000 and 0xC000 of 0xFFFF, of 255
USED, LEFT_OUT, BROKEN = (
    hostile_pictures.used(),
    hostile_pictures.left_out(),
    hostile_pictures.broken(),
)
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
    image = image_decoding.pixels(USED[name])
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    height, width = image.shape[:2]
    left, right = GRAYS if name.startswith("gray_16") else (RED, BLUE)
    first, last = image[height // 2, 1], image[height // 2, -2]
    # EXIF 6: turn clockwise; 8: counterclockwise.
    if name in ("turned_6.jpg", "turned_6.tiff", "turned_8.jpg"):
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
        np.testing.assert_array_equal(image_decoding.pixels(saved(image, **settings)), 255)
    palette = halves().quantize(4)
    content = saved(palette, format="GIF", transparency=palette.getpixel((0, 0)))
    found = image_decoding.pixels(content)
    assert found[8, 1].tolist() == [255] * 3 and found[8, -2].tolist() != [255] * 3


# A file without its name: only the suffix tells that this one is not a plain TIFF.
@pytest.mark.parametrize("name", [*sorted(LEFT_OUT.keys() - {"camera.nef"}), *BROKEN])
def test_what_is_no_picture_is_an_error(name):
    content = BROKEN.get(name) or LEFT_OUT[name][0]
    with pytest.raises((OSError, ValueError, SyntaxError, Image.DecompressionBombError)):
        image_decoding.pixels(content)


@pytest.mark.parametrize(
    "head, name",
    [
        (bytes(4) + b"ftypavif", "AVIF"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (bytes(4) + b"ftypisom", None),
        (b"P6 3 4 255 ", "PNM"),
        (b"P3\n# made by hand", "PNM"),
        (b"Paper", None),
        (bytes(128) + b"DICM", "DICOM"),
        (b"", None),
    ],
)
def test_formats_that_are_recognized_where_they_are_not_read(head, name):
    assert image_kinds.name_unsupported_format(head) == name


def test_too_much_text_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 1000)
    hostile_pictures.write(tmp_path, {"a.png": hostile_pictures.with_text(1001)})
    complaint = image_files.inspect(tmp_path / "a.png").complaint
    assert complaint == "with more than 64 MB of text or color profile"


def test_the_limit_of_megapixels_is_a_setting(tmp_path):
    """Pillow's own limit, of 179 megapixels, does not come first."""
    claim = hostile_pictures.claims_to_be
    hostile_pictures.write(
        tmp_path,
        {
            "small.png": saved(noise(16), format="PNG"),
            "large.png": claim(300_000, 1000),
            "huge.png": claim(301_000, 1000),
            "bomb.png": claim(60_000, 60_000),
        },
    )
    source = folder.open_folder(str(tmp_path), unlabelled=True, max_megapixels=300)
    assert source.left_out == {"larger than 300 megapixels": 2}
    with pytest.raises(ValueError, match="larger than 1 megapixels"):
        image_decoding.pixels(saved(noise(1001), format="PNG"), max_megapixels=1)


def test_a_gray_tiff_of_16_bits_keeps_them_in_a_range():
    values = np.array([[0, 2048, 4095] * 3] * 9, np.uint16)
    content = saved(Image.fromarray(values), format="TIFF")
    found = image_decoding.pixels(content, ImageRange(0, 4095))
    assert found[0, :3, 0].tolist() == [0, 128, 255]
    np.testing.assert_array_equal(image_decoding.values_16_bit(content)[..., 0], values)
    inverted = saved(Image.fromarray(values), format="TIFF", tiffinfo={262: 0})  # 0 is white
    assert image_decoding.pixels(inverted, ImageRange(61440, 65535))[0, :3, 0].tolist() == [
        255,
        127,
        0,
    ]


def deep_color_tiff() -> bytes:
    """Makes 8 x 8 pixels, all of them white in 12 bits."""
    tags = (
        (256, 3, 1, 8),
        (257, 3, 1, 8),
        (258, 3, 3, 134),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 140),
        (277, 3, 1, 3),
        (278, 3, 1, 8),
        (279, 4, 1, 384),
    )
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return head.ljust(134, b"\0") + struct.pack("<3H", 16, 16, 16) + b"\xff\x0f" * 192


def test_a_color_tiff_of_16_bits_is_used_without_a_range_only(tmp_path):
    """Pillow cuts it to 8 bits, so a range of 12 bits would be read as black."""
    hostile_pictures.write(tmp_path, {"a.tif": deep_color_tiff()})
    assert image_decoding.pixels(deep_color_tiff()).max() == 15
    path = tmp_path / "a.tif"
    assert image_files.inspect(path).complaint is None
    complaint = image_files.inspect(path, image_files.Limits(in_range=True)).complaint
    assert complaint == "16-bit color TIFF, which --image_range cannot scale"
    with pytest.raises(ValueError, match="cannot scale"):
        image_decoding.pixels(deep_color_tiff(), ImageRange(0, 4095))


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
    assert "2 smaller than 8 pixels" in line and "2 larger than 256 megapixels" in line
    assert "2 HEIC" in line and "4 camera raw" in line
    assert "; HEIC, ICO, JPEG XL, PSD, SVG, camera raw: convert them to " in line
    paths = [e["id"].numpy() for e in source.encoded_examples("train", with_id=True)]
    assert len(set(paths)) == len(paths)
    assert any(path.endswith(b"not_utf8_\xff.png") for path in paths)


def test_evaluation_counts_what_cannot_be_decoded(source):
    total = source.num_examples("train")
    dataset = batches.eval_batches(
        source, split="train", image_size=16, batch_size=16, strict=False
    )
    weights, skipped, labels = [], [], []
    for _, label, weight, skip in dataset:
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
        source,
        split="train",
        train_mode=train_mode,
        image_size=16,
        batch_size=total,
        global_batch_size=total,
        color_jitter_strength=0.5,
        cache=False,
        seed=1,
    )
    for images, labels, skipped in batches.take(2):
        assert images.shape == (total, views, 16, 16, 3)
        assert np.isfinite(images.numpy()).all() and images.numpy().std() > 0.05
        assert skipped.numpy().sum() == len(BROKEN)
        assert labels.numpy().sum() == total


def test_strict_names_the_file(source):
    dataset = batches.eval_batches(source, split="train", image_size=16, batch_size=16, strict=True)
    with pytest.raises(errors.UndecodableError, match="halves/.* cannot be decoded"):
        with errors.in_one_line():
            list(dataset)


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
    parts = [source.part_of_split("train", 3, i) for i in range(3)]
    assert sum((read(source, part) for part in parts), []) == plain
    for split, message in (("val", "use one of test, train"), ("train[:0]", "is empty in folder")):
        with pytest.raises(ConfigError, match=message):
            source.num_examples(split, flag="eval_split")


def test_unlabeled_takes_them_from_anywhere(root, capsys):
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
        (
            str(tmp_path / "flat"),
            "1 picture, but none in SPLIT/CLASS/ such as train/cat/ (the "
            "first is a b.png): sort them like that, or set --unlabelled to pretrain without "
            "labels",
        ),
        (str(tmp_path / "none"), "among its 2 files (2 not a picture): use another"),
        (str(tmp_path / "empty"), "among its 0 files"),
        (None, "data_dir must be given with dataset=folder"),
        ("gs://bucket/pictures", "must be a folder of this machine"),
    ):
        with pytest.raises(ConfigError) as error:
            folder.open_folder(directory, unlabelled=False)
        assert words in str(error.value) and "\n" not in str(error.value)
