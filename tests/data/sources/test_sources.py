"""TFDS sources: features of every kind, splits, order, and error messages."""

import pathlib
import socket
import time

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_simclr.data.sources import tfds_source
from tf_simclr.errors import ConfigError

REAL_DATA = pathlib.Path(__file__).parents[4] / "shared" / "tfds"
needs_real_data = pytest.mark.skipif(
    not (REAL_DATA / "cifar10").exists(), reason="no prepared data sets beside the repository"
)


def pixels(index, shape, dtype=np.uint8):
    return np.random.default_rng(index).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


class _Tiny(tfds.core.GeneratorBasedBuilder):
    """Eight training and three test images, image i drawn from seed i, its label i % 3."""

    VERSION = tfds.core.Version("1.0.0")
    SHAPE = (28, 28, 1)
    DTYPE = np.uint8
    LABEL = "label"
    KEYS = None
    COUNTS = {"train": 8, "test": 3}

    def _info(self):
        features = {"image": tfds.features.Image(shape=self.SHAPE, dtype=self.DTYPE)}
        if self.LABEL:
            features[self.LABEL] = tfds.features.ClassLabel(names=["a", "b", "c"])
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=self.KEYS,
        )

    def _split_generators(self, dl_manager):
        return {split: self._examples(count) for split, count in self.COUNTS.items()}

    def _generate_examples(self):
        raise NotImplementedError

    def _examples(self, count):
        for index in range(count):
            example = {"image": pixels(index, self.SHAPE, self.DTYPE)}
            if self.LABEL:
                example[self.LABEL] = index % 3
            yield index, example


class TinyGray(_Tiny):
    pass


class TinyRgba(_Tiny):
    SHAPE = (9, 13, 4)
    LABEL = "labels"


class TinyDeep(_Tiny):
    SHAPE = (10, 10, 3)
    DTYPE = np.uint16
    LABEL = "species"
    KEYS = ("image", "species")


class TinyUnlabeled(_Tiny):
    SHAPE = (31, 17, 3)
    LABEL = None


class TinyText(_Tiny):
    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({"text": tfds.features.Text()}),
        )

    def _examples(self, count):
        for index in range(count):
            yield index, {"text": str(index)}


class TinyBroken(_Tiny):
    def _examples(self, count):
        yield 0, {"image": pixels(0, self.SHAPE), "label": 0}
        raise RuntimeError("disk on fire")


class TinyManual(_Tiny):
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Ask the owner."


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


def read(dataset):
    """Lists images and labels of one pass."""
    return [(x["image"].numpy(), int(x["label"])) for x in dataset]


def expected_images(shape, dtype=np.uint8):
    """Returns what decode must give for the eight training images, in any order."""
    images = [pixels(index, shape, dtype) for index in range(8)]
    if dtype == np.uint16:
        images = [image // 256 for image in images]
    return [np.repeat(i, 3, -1) if shape[-1] == 1 else i[..., :3] for i in images]


@pytest.mark.parametrize(
    "name, builder",
    [("tiny_gray", TinyGray), ("tiny_rgba", TinyRgba), ("tiny_deep", TinyDeep)],
)
def test_labeled_images_of_every_kind(data_dir, name, builder):
    source = tfds_source.open_source(name, data_dir)
    assert (source.name, source.num_classes) == (name, 3)
    assert source.class_names == ("a", "b", "c")
    assert source.image_shape == builder.SHAPE
    dataset = source.examples("train")
    assert dataset.element_spec["image"] == tf.TensorSpec((*builder.SHAPE[:2], 3), tf.uint8)
    assert dataset.element_spec["label"] == tf.TensorSpec((), tf.int64)
    expected = expected_images(builder.SHAPE, builder.DTYPE)
    seen = []
    for image, label in read(dataset):
        errors = [np.abs(image.astype(int) - other).max() for other in expected]
        seen.append(int(np.argmin(errors)))
        assert min(errors) <= 1 and label == seen[-1] % 3
    assert sorted(seen) == list(range(8))


def test_unlabeled(data_dir):
    source = tfds_source.open_source("tiny_unlabeled", data_dir)
    assert source.num_classes is None and source.class_names is None
    examples = read(source.examples("train+test"))
    assert [label for _, label in examples] == [-1] * 11
    assert {image.shape for image, _ in examples} == {(31, 17, 3)}


def test_encoded_examples_decode_to_examples(data_dir):
    source = tfds_source.open_source("tiny_gray", data_dir)
    decoded = [source.decode(x["image"]).numpy() for x in source.encoded_examples("train")]
    np.testing.assert_array_equal(decoded, [image for image, _ in read(source.examples("train"))])


@pytest.mark.parametrize(
    "split, count", [("train", 8), ("train[:25%]", 2), ("train+test", 11), ("train[1:4]", 3)]
)
def test_split_slices(data_dir, split, count):
    source = tfds_source.open_source("tiny_gray", data_dir)
    assert source.num_examples(split) == count
    assert len(read(source.examples(split))) == count


@pytest.mark.parametrize("split", ["validation", "train[:", "train[:0%]"])
def test_wrong_split_names_flag_and_splits(data_dir, split):
    source = tfds_source.open_source("tiny_gray", data_dir)
    with pytest.raises(ConfigError) as error:
        source.num_examples(split, flag="eval_split")
    message = str(error.value)
    assert f"--eval_split={split}" in message and "train, test" in message
    assert "\n" not in message


@pytest.mark.parametrize("split", ["train", "train[:5]", "train+test", "train[-6:]+test[1:]"])
@pytest.mark.parametrize("num_parts", [1, 2, 3, 4])
def test_parts_are_even_and_together_the_split(data_dir, split, num_parts):
    source = tfds_source.open_source("tiny_gray", data_dir)
    parts = [source.part_of_split(split, num_parts, index) for index in range(num_parts)]
    sizes = [source.num_examples(part) for part in parts]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] - sizes[-1] <= 1
    images = [[x.tobytes() for x, _ in read(source.examples(part))] for part in parts]
    assert [len(part) for part in images] == sizes
    assert sum(images, []) == [x.tobytes() for x, _ in read(source.examples(split))]


class TinyFiles(_Tiny):
    """Enough bytes for several files, whose order can be shuffled."""

    SHAPE = (8, 8, 3)
    COUNTS = {"train": 40}


@pytest.fixture(scope="module")
def many_files(data_dir):
    builder = TinyFiles(data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=20))
    return tfds_source.open_source("tiny_files", data_dir)


def test_file_order_is_a_function_of_the_seed(many_files):
    def order(**kwargs):
        return [x.tobytes() for x, _ in read(many_files.examples("train", **kwargs))]

    plain = order()
    shuffled = order(shuffle_files=True, seed=1)
    assert order() == plain
    assert order(shuffle_files=True, seed=1) == shuffled
    assert order(shuffle_files=True, seed=tf.constant(1, tf.int64)) == shuffled
    assert order(shuffle_files=True, seed=2) != shuffled
    assert sorted(shuffled) == sorted(plain) and shuffled != plain


def test_prepared_files_need_no_code(data_dir, monkeypatch):
    tfds_source.open_source("tiny_gray", data_dir)

    def no_code(*args, **kwargs):
        raise AssertionError("the registered code was used")

    monkeypatch.setattr(tfds, "builder", no_code)
    assert tfds_source.open_source("tiny_gray", data_dir).num_examples("test") == 3
    assert tfds_source.open_source("tiny_gray:1.0.0", data_dir).num_examples("test") == 3


def failure(name, data_dir):
    with pytest.raises(ConfigError) as error:
        tfds_source.open_source(name, str(data_dir))
    message = str(error.value)
    assert "\n" not in message and f"--dataset={name}" in message
    return message


@pytest.mark.parametrize("name, near", [("cifar1", "cifar10"), ("shape", "shapes")])
def test_wrong_name_suggests_near_ones(tmp_path, name, near):
    assert near in failure(name, tmp_path / "new").split("try ")[1]
    assert not (tmp_path / "new").exists()


def test_wrong_config(tmp_path):
    failure("imagenet2012_subset/3pct", tmp_path)


def test_manual_download_says_where_archives_go(tmp_path):
    message = failure("tiny_manual", tmp_path / "new")
    assert str(tmp_path / "new" / "downloads" / "manual") in message and "by hand" in message
    assert not (tmp_path / "new").exists()


def test_no_image_feature(tmp_path):
    assert "no image feature" in failure("tiny_text", tmp_path)


def test_failed_preparation_leaves_nothing(tmp_path):
    message = failure("tiny_broken", tmp_path / "new")
    assert "disk on fire" in message and "--data_dir" in message
    assert not (tmp_path / "new").exists()


def test_failed_preparation_keeps_what_was_there(tmp_path):
    tfds_source.open_source("tiny_gray", str(tmp_path))
    failure("tiny_broken", tmp_path)
    assert not (tmp_path / "tiny_broken").exists()
    assert tfds_source.open_source("tiny_gray", str(tmp_path)).num_examples("train") == 8


def test_without_network_fails_at_once(tmp_path, monkeypatch):
    def unreachable(host, *args):
        raise socket.gaierror(f"{host} is not known")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    # TFDS reads the addresses of a data set's files from the folder of its code.
    monkeypatch.setattr(TinyGray, "url_infos", {"https://example.invalid/a.tar": None})
    start = time.monotonic()
    message = failure("tiny_gray", tmp_path / "new")
    assert time.monotonic() - start < 5
    assert "example.invalid cannot be reached" in message and "--data_dir" in message
    assert not (tmp_path / "new").exists()


def test_data_dir_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    assert "--data_dir" in failure("tiny_gray", tmp_path / "file")


def test_shapes_are_built_in(tmp_path, monkeypatch):
    from tf_simclr.data.sources import shapes

    asked = []

    def prepare(data_dir=None):
        asked.append(data_dir)
        builder = TinyRgba(data_dir=data_dir)
        builder.download_and_prepare()
        return builder

    monkeypatch.setattr(shapes, "prepare", prepare)
    assert tfds_source.open_source("shapes", str(tmp_path)).num_classes == 3
    assert asked == [str(tmp_path)]


@needs_real_data
def test_real_data_opens_fast_and_offline():
    start = time.monotonic()
    cifar = tfds_source.open_source("cifar10", str(REAL_DATA))
    assert time.monotonic() - start < 5
    assert cifar.num_classes == 10 and cifar.class_names[0] == "airplane"
    assert cifar.num_examples("train") == 50_000 and cifar.image_shape == (32, 32, 3)
    imagenet = tfds_source.open_source("imagenet2012", str(REAL_DATA))
    assert imagenet.num_classes == 1000 and imagenet.image_shape == (None, None, 3)
    image = next(iter(imagenet.examples("validation")))["image"]
    assert image.dtype == tf.uint8 and image.shape[-1] == 3
