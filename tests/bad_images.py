"""A TFDS data set in which some images cannot be decoded, each in a way that occurs."""

import io

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

import small

NUM_TRAIN, NUM_TEST, NUM_ROTTEN = 48, 20, 20
BAD_TRAIN, BAD_TEST = (3, 11, 17, 30, 41), (0, 7, 19)


def good_image(index: int) -> bytes:
    """Encodes an image of gray level 5 * index, which any crop tells; some are PNG."""
    pixels = np.full((20 + index, 30, 3), 5 * index, np.uint8)
    encode = tf.io.encode_png if index % 8 == 0 else tf.io.encode_jpeg
    return encode(pixels).numpy()


def _noise(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)


def truncated_jpeg() -> bytes:
    whole = tf.io.encode_jpeg(_noise(64)).numpy()
    return whole[: len(whole) // 2]


def random_bytes() -> bytes:
    return _noise(20).tobytes()


def empty() -> bytes:
    return b""


def png_with_wrong_checksum() -> bytes:
    whole = bytearray(tf.io.encode_png(_noise(32)).numpy())
    whole[len(whole) // 2] ^= 0xFF
    return bytes(whole)


def jpeg_that_claims_to_be_huge() -> bytes:
    whole = bytearray(tf.io.encode_jpeg(_noise(16)).numpy())
    frame = whole.index(b"\xff\xc0")  # marker, length (2), precision (1), height (2), width (2)
    whole[frame + 5 : frame + 9] = (60_000).to_bytes(2, "big") * 2
    return bytes(whole)


KINDS = (truncated_jpeg, random_bytes, empty, png_with_wrong_checksum, jpeg_that_claims_to_be_huge)


class BadImages(tfds.core.GeneratorBasedBuilder):
    """Example i has label i. Splits train and test have some bad examples, rotten only such."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = small.image_features(NUM_TRAIN, encoding_format="jpeg")
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(NUM_TRAIN, BAD_TRAIN),
            "test": self._generate_examples(NUM_TEST, BAD_TEST),
            "rotten": self._generate_examples(NUM_ROTTEN, range(NUM_ROTTEN)),
        }

    def _generate_examples(self, count, bad):
        for index in range(count):
            kind = KINDS[list(bad).index(index) % len(KINDS)] if index in bad else None
            image = kind() if kind else good_image(index)
            yield index, {"image": io.BytesIO(image), "label": index}


def prepare(data_dir: str):
    """Writes the data set, the training split in two files."""
    builder = BadImages(data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=2))
