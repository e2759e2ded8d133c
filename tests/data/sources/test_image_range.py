"""--image_range: 12-bit data in 16-bit files, from folders, TFDS and mode=predict."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from hostile_pictures import noise, saved, write
from tf_simclr.cli import flags
from tf_simclr.config import Config, check, saved_settings
from tf_simclr.data.sources import image_decoding, image_range, opening
from tf_simclr.data.sources.image_range import ImageRange
from tf_simclr.errors import ConfigError
from tf_simclr.modes import pictures

TWELVE_BITS = ImageRange(0, 4095)


def values(channels: int, largest: int = 4095) -> np.ndarray:
    """Makes uint16 (12, 16, channels) from 0 to largest."""
    found = np.random.default_rng(channels).integers(0, largest + 1, (12, 16, channels), np.uint16)
    found[0, 0], found[0, 1] = 0, largest
    return found


def png(array: np.ndarray) -> bytes:
    return tf.io.encode_png(array).numpy()


def expected(array: np.ndarray, low: int, high: int) -> np.ndarray:
    scaled = np.clip((array.astype(np.float64) - low) / (high - low), 0, 1)
    return np.rint(255 * scaled)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("low, high", [(0, 4095), (1000, 3000), (0, 65535)])
def test_values_of_the_range_are_spread_over_8_bits(channels, low, high):
    array = values(channels)
    found = image_decoding.pixels(png(array), ImageRange(low, high))
    assert found.dtype == np.uint8 and found.shape == (12, 16, 3)
    np.testing.assert_allclose(found, expected(array, low, high) + np.zeros(3), atol=1)
    tensor = image_range.tensor_to_8_bits(tf.constant(array), ImageRange(low, high))
    np.testing.assert_array_equal(tensor + np.zeros(3, np.uint8), found)


def test_color_keeps_its_precision():
    """Pillow keeps the upper 8 of 16 bits, which would leave 16 levels of 12 bits."""
    found = image_decoding.pixels(png(values(3)), TWELVE_BITS)
    assert len(np.unique(found)) > 150


def test_without_a_range_nothing_changes():
    array = values(1, 65535)
    plain = image_decoding.pixels(png(array))
    np.testing.assert_array_equal(plain, np.rint(array / 257).astype(np.uint8).repeat(3, axis=2))
    colors = values(3, 65535)
    np.testing.assert_array_equal(image_decoding.pixels(png(colors)), colors >> 8)


@pytest.mark.parametrize(
    "settings",
    [
        dict(format="PNG"),
        dict(format="JPEG"),
        dict(format="WEBP", lossless=True),
        dict(format="BMP"),
    ],
)
def test_8_bits_are_left_alone(settings):
    content = saved(noise(16), **settings)
    np.testing.assert_array_equal(
        image_decoding.pixels(content, TWELVE_BITS), image_decoding.pixels(content)
    )


def test_what_is_transparent_lies_on_white():
    array = values(4)
    array[..., 3] = 0
    array[:6, :, 3] = 65535
    found = image_decoding.pixels(png(array), TWELVE_BITS)
    np.testing.assert_array_equal(found[6:], 255)
    np.testing.assert_allclose(found[:6], expected(array[:6, :, :3], 0, 4095), atol=1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_as_exif_says(orientation):
    """They are turned like the same picture in 16-bit gray, which Pillow turns itself."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    gray = values(1, 65535)[..., 0]
    content = saved(Image.fromarray(gray), format="PNG", exif=exif)
    found = image_decoding.pixels(content, ImageRange(0, 65535))
    np.testing.assert_array_equal(found, image_decoding.pixels(content))
    assert found.shape[:2] == ((16, 12) if orientation > 4 else (12, 16))


def test_what_is_cut_short_is_an_error():
    content = png(values(3, 65535))
    for broken in (content[: len(content) // 2], content[:40]):
        with pytest.raises(Exception):  # noqa: B017
            image_decoding.pixels(broken, TWELVE_BITS)


@pytest.mark.parametrize(
    "text, is_right",
    [
        ("0,4095", True),
        ("0,65535", True),
        ("100,101", True),
        ("4095,0", False),
        ("7,7", False),
        ("0,65536", False),
        ("-1,4", False),
        ("0", False),
        ("", False),
        ("0,4095,1", False),
        ("0.5,4", False),
        ("0, 4095", False),
    ],
)
def test_the_setting_is_checked(text, is_right):
    config = Config().replace(image_range=text)
    if is_right:
        check(config)
        assert image_range.parse(text) == ImageRange(*map(int, text.split(",")))
    else:
        with pytest.raises(ConfigError, match="image_range must be two values LOW,HIGH"):
            check(config)


def folder_config(root, contents: dict[str, bytes], **settings) -> Config:
    write(root / "train" / "a", contents)
    write(root / "train" / "b", {"plain.png": saved(noise(16), format="PNG")})
    return Config().replace(dataset="folder", data_dir=str(root), **settings)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_dark_folder_is_said_once_with_the_way_out(tmp_path, channels, capsys):
    contents = {f"{i}.png": png(values(channels, 3000)) for i in range(40)}
    config = folder_config(tmp_path, contents | {"half.png": contents["0.png"][:60]})
    opening.open_data(config)
    lines = [line for line in capsys.readouterr().err.splitlines() if "image_range" in line]
    assert len(lines) == 1
    assert "folder: " in lines[0] and "from 0 to 3000" in lines[0]
    assert lines[0].endswith("--image_range=0,4095 makes 4095 white")
    for again in (config.replace(image_range="0,4095"), config.replace(image_range="0,65535")):
        opening.open_data(again)
    opening.open_data(config, quiet=True)
    assert "image_range" not in capsys.readouterr().err


@pytest.mark.parametrize("largest", [16384, 65535])
def test_a_folder_that_uses_its_bits_is_not_mentioned(tmp_path, largest, capsys):
    contents = {"dark.png": png(values(1, 300)), "bright.png": png(values(1, largest))}
    opening.open_data(folder_config(tmp_path, contents))
    assert "image_range" not in capsys.readouterr().err


def test_the_sample_is_spread_and_small():
    assert image_range.evenly_spaced(0) == []
    assert image_range.evenly_spaced(3) == [0, 1, 2]
    positions = image_range.evenly_spaced(3200)
    assert len(positions) == 32 and positions[:2] == [0, 100] and positions[-1] == 3100


def test_a_folder_is_decoded_in_the_range(tmp_path):
    config = folder_config(tmp_path, {"a.png": png(values(3))}, image_range="0,4095")
    source = opening.open_data(config)
    examples = source.encoded_examples("train").filter(lambda example: example["label"] == 0)
    (found,) = examples.map(lambda example: source.decode(example["image"]))
    np.testing.assert_allclose(found, expected(values(3), 0, 4095), atol=1)


@pytest.mark.parametrize("text, high", [("0,4095", 4095), (None, 65535)])
def test_predict_reads_in_the_range(tmp_path, replicas, text, high):
    array = np.full((8, 8, 1), 2048, np.uint16)
    write(tmp_path, {"a.png": png(array)})
    ((_, good, found),) = pictures.compute_batches(
        replicas(1),
        lambda images: tf.reduce_mean(images, axis=[1, 2]),
        [str(tmp_path / "a.png")],
        pictures.PictureReader(image_range.parse(text), 256),
        image_size=8,
        batch_size=1,
    )
    assert good.tolist() == [True]
    np.testing.assert_allclose(found, np.full((1, 3), 2048 / high), atol=1 / 255)


class TwelveBits(tfds.core.GeneratorBasedBuilder):
    """Two splits of 12-bit values in uint16."""

    name = "twelve_bits"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(12, 16, 1), dtype=np.uint16),
            "label": tfds.features.ClassLabel(num_classes=2),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(40), "test": self._generate_examples(2)}

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"image": values(1, 3000), "label": i % 2}


def test_a_tfds_data_set_of_16_bits(tmp_path, capsys):
    TwelveBits(data_dir=tmp_path).download_and_prepare()
    config = Config().replace(dataset="twelve_bits", data_dir=str(tmp_path))
    capsys.readouterr()
    plain = opening.open_data(config)
    text = capsys.readouterr().err
    assert text.count("--image_range=0,4095") == 1 and "32 of the 16-bit images" in text
    source = opening.open_data(config.replace(image_range="0,4095"))
    assert "image_range" not in capsys.readouterr().err
    encoded = next(iter(source.encoded_examples("train")))["image"]
    assert plain.decode(encoded).numpy().max() == 3000 // 256
    found = source.decode(encoded)
    np.testing.assert_allclose(found, expected(values(1, 3000), 0, 4095) + np.zeros(3), atol=1)
    assert source.fingerprint() == plain.fingerprint() != 0
    assert plain.contents() == {
        "data set": "twelve_bits/1.0.0",
        "classes": 2,
        "train": 40,
        "test": 2,
    }


def test_predict_takes_the_range_from_the_run(tmp_path):
    config = flags.parse(["run.py", "--dataset=shapes", "--image_range=0,4095"]).config
    (tmp_path / "config.gin").write_text(saved_settings.to_gin(config))
    arguments = ["--mode=predict", f"--checkpoint={tmp_path}", "--images=pictures"]
    assert flags.parse(["run.py", *arguments]).config.data.image_range == "0,4095"
