"""TFDS data sets whose features have unusual names, and labels that are not classes."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_simclr import experiment
from tf_simclr.cli import flags
from tf_simclr.config import check
from tf_simclr.data.sources import array_records, tfds_features, tfds_source
from tf_simclr.errors import ConfigError

Features = tfds.features
IMAGE = Features.Image(shape=(8, 8, 3))


def info(features: dict, keys=None):
    """The part of a tfds.core.DatasetInfo that `choose` reads."""

    class Info:
        supervised_keys = keys

    Info.features = Features.FeaturesDict(features)
    return Info


FEATURES = {
    "photo": IMAGE,
    "mask": Features.Image(shape=(8, 8, 1)),
    "digit": tf.int64,
    "breed": Features.ClassLabel(num_classes=5),
    "species": Features.ClassLabel(names=["a", "b"]),
    "tags": Features.Sequence(Features.ClassLabel(num_classes=9)),
    "note": Features.Text(),
    "box": Features.BBoxFeature(),
}


@pytest.mark.parametrize(
    "keys, settings, expected",
    [
        (None, {}, ("photo", None)),
        (("photo", "breed"), {}, ("photo", "breed")),
        (("photo", "breed"), dict(label_key="species"), ("photo", "species")),
        (None, dict(image_key="mask", label_key="breed"), ("mask", "breed")),
    ],
)
def test_which_features_are_used(keys, settings, expected):
    assert tfds_features.choose("x", info(FEATURES, keys), **settings)[:2] == expected


@pytest.mark.parametrize(
    "settings, words",
    [
        (
            dict(image_key="foto"),
            "image_key must name a feature of --dataset=x, got 'foto': it has ",
        ),
        (dict(image_key="breed"), "which is ClassLabel of shape (): it has "),
        (
            dict(label_key="bread"),
            "label_key must name a feature of --dataset=x, got 'bread': it has ",
        ),
        (
            dict(label_key="digit"),
            "'digit' is a plain integer, which does not tell how many classes",
        ),
        (
            dict(label_key="tags"),
            "'tags' is a list of labels for each image (Sequence of shape (None,",
        ),
        (dict(label_key="box"), "'box' is a list of labels for each image"),
        (dict(label_key="note"), "'note' is Text of shape (), which is not a class"),
        (dict(label_key="photo"), "'photo' is Image of shape (8, 8, 3), which is not a class"),
    ],
)
def test_what_cannot_be_used_is_refused(settings, words):
    with pytest.raises(ConfigError) as error:
        tfds_features.choose("x", info(FEATURES), **settings)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "label, words",
    [
        (tf.int64, "'label' is a plain integer, which does not tell how many classes there are"),
        (Features.Sequence(Features.ClassLabel(num_classes=3)), "'label' is a list of labels"),
        (None, ""),
    ],
)
def test_why_there_are_no_labels_is_explained(label, words):
    features = {"image": IMAGE} | ({} if label is None else {"label": label})
    found = tfds_features.choose("x", info(features))
    assert found.label_key is None and found.label_note.startswith(words)
    assert words or not found.label_note


def test_a_class_under_another_name_is_pointed_at():
    found = tfds_features.choose("x", info({"image": IMAGE, "breed": FEATURES["breed"]}))
    assert found.label_note == "--label_key=breed takes the class from its feature 'breed'"


@pytest.mark.parametrize("dataset", ["folder", "shapes"])
@pytest.mark.parametrize("name", ["image_key", "label_key"])
def test_other_data_has_no_features_to_choose(dataset, name):
    config = flags.parse(["run.py", f"--dataset={dataset}"]).config.replace(**{name: "x"})
    with pytest.raises(ConfigError, match=f"{name} must be unset with dataset={dataset}, got 'x'"):
        check(config)


class TinyPets(tfds.core.GeneratorBasedBuilder):
    """Forty images of one gray level each: example i has level i."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "photo": Features.Image(shape=(8, 8, 3)),
            "mask": Features.Image(shape=(4, 4, 1)),
            "breed": Features.ClassLabel(num_classes=40),
            "digit": np.int64,
        }
        return tfds.core.DatasetInfo(builder=self, features=Features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._examples(0, 40), "test": self._examples(7, 10)}

    def _generate_examples(self):
        raise NotImplementedError

    def _examples(self, start, stop):
        for i in range(start, stop):
            yield (
                i,
                {
                    "photo": np.full((8, 8, 3), i, np.uint8),
                    "mask": np.full((4, 4, 1), i, np.uint8),
                    "breed": i,
                    "digit": i,
                },
            )


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def pets(request, tmp_path_factory):
    """(data_dir with the data set in this file format, that format)"""
    if request.param == array_records.FORMAT:
        pytest.importorskip("array_record")
    data_dir = str(tmp_path_factory.mktemp(request.param))
    builder = TinyPets(data_dir=data_dir, file_format=request.param)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=2))
    return data_dir, request.param


def opened(pets, **settings) -> tfds_source.TfdsSource:
    settings = {"image_key": "mask", "label_key": "breed"} | settings
    return tfds_source.open_source("tiny_pets", pets[0], **settings)


def grays(dataset) -> list[int]:
    """Returns the gray level of each example, which is its label."""
    found = [(int(x["image"].numpy()[0, 0, 0]), int(x["label"])) for x in dataset]
    assert all(gray == label for gray, label in found)
    return [gray for gray, _ in found]


def test_examples_of_the_chosen_features(pets):
    source = opened(pets)
    assert source.num_classes == 40 and source.image_shape == (4, 4, 1)
    assert source.reads_in_this_process == (pets[1] == array_records.FORMAT)
    whole = grays(source.examples("train"))
    assert sorted(whole) == list(range(40))
    assert grays(source.examples("train[3:9]")) == whole[3:9]
    assert sorted(grays(source.examples("test+train[:2]"))) == sorted([7, 8, 9, *whole[:2]])
    parts = [source.part_of_split("train", 3, i) for i in range(3)]
    assert sorted(sum((grays(source.examples(part)) for part in parts), [])) == sorted(whole)


def test_the_message_that_asks_for_labels_says_why_there_are_none(pets, tmp_path):
    config = flags.parse(
        [
            "run.py",
            "--dataset=tiny_pets",
            f"--data_dir={pets[0]}",
            f"--model_dir={tmp_path / 'run'}",
        ]
    ).config
    with pytest.raises(ConfigError) as error:
        experiment.run(config.replace(seed=1))
    message = str(error.value)
    assert "tiny_pets has no class labels (--label_key=breed takes the class from its" in message
    assert "--lineareval_while_pretraining=False" in message and "\n" not in message
    assert not (tmp_path / "run").exists()


def test_the_order_is_a_function_of_the_seed(pets):
    source = opened(pets)
    first = grays(source.examples("train", shuffle_files=True, seed=2**40 + 7))
    assert first == grays(source.examples("train", shuffle_files=True, seed=2**40 + 7))
    assert sorted(first) == list(range(40))
    if source.reads_in_this_process:
        assert first != grays(source.examples("train"))
        assert first != grays(source.examples("train", shuffle_files=True, seed=8))


def test_an_id_belongs_to_an_example_in_every_slice(pets):
    """label_fraction finds its examples by their ids."""

    def ids(split: str, **settings) -> list[tuple[bytes, int]]:
        examples = source.encoded_examples(split, with_id=True, **settings)
        return [(e["id"].numpy(), int(e["label"])) for e in examples]

    source = opened(pets)
    train, test = ids("train"), ids("test")
    assert len({name for name, _ in train + test}) == 43
    assert set(ids("test+train[30:35]+train[3:7]")) <= set(train + test)
    assert set(ids("train", shuffle_files=True, seed=1)) == set(train)


def test_without_the_reader_s_package_the_way_out_is_said(pets, monkeypatch):
    if pets[1] != array_records.FORMAT:
        pytest.skip("of array_record files")
    monkeypatch.setitem(__import__("sys").modules, "array_record.python", None)
    with pytest.raises(ConfigError) as error:
        opened(pets)
    message = str(error.value)
    assert "--dataset=tiny_pets is stored as array_record files" in message
    assert "pip install array_record" in message and "\n" not in message
