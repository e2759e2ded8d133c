"""Whether a run keeps its training images in memory, and that it changes nothing."""

import itertools

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

import streams
from tf_simclr.config import Config
from tf_simclr.data.sources import folder, tfds_source
from tf_simclr.training import kept_images

GB = 10**9


def decide(
    source, *, free_bytes=8 * GB, on_device=True, num_examples=10**6, **settings
) -> kept_images.KeptImages:
    return kept_images.decide(
        Config().replace(image_size=32, **settings),
        source,
        augments_on_device=on_device,
        num_examples=num_examples,
        free_bytes=free_bytes,
    )


@pytest.fixture(scope="module")
def shapes(shapes_dir):
    return tfds_source.open_source("shapes", str(shapes_dir))


def test_a_small_data_set_is_kept_and_the_log_says_so(shapes):
    kept = decide(shapes)
    size = shapes.num_examples("train") * 32 * 32 * 3
    assert kept.are_kept
    assert f"in memory, decoded: {size / 1e6:.0f} MB of the 8.0 GB that are free" in kept.note
    assert "--cache_dataset=False" in kept.note


def test_a_quarter_of_the_free_memory_is_the_limit(shapes):
    peak = 2 * shapes.num_examples("train") * 32 * 32 * 3  # loading takes it twice
    assert decide(shapes, free_bytes=4 * peak).are_kept
    refused = decide(shapes, free_bytes=4 * peak - 1)
    assert not refused.are_kept and "--cache_dataset=True" in refused.note


def test_what_is_read_only_once_is_not_kept(shapes):
    epoch = shapes.num_examples("train")
    assert decide(shapes, num_examples=epoch) == kept_images.KeptImages(False)
    assert decide(shapes, num_examples=epoch + 1).are_kept


def test_images_that_the_host_augments_are_kept_as_stored(shapes):
    kept = decide(shapes, on_device=False)
    stored = shapes.num_bytes("train")
    assert kept.are_kept and f"as stored: {stored / 1e6:.0f} MB" in kept.note
    assert not decide(shapes, on_device=False, free_bytes=4 * stored - 1).are_kept
    half = shapes.num_bytes("train[:50%]")
    assert 0.49 * stored < half < 0.51 * stored


@pytest.mark.parametrize("value", [True, False])
def test_a_decision_of_the_user_is_kept_without_a_word(shapes, value):
    assert decide(shapes, cache_dataset=value, free_bytes=0) == kept_images.KeptImages(value)


def test_what_would_change_the_order_is_not_kept(shapes, tmp_path):
    nothing = kept_images.KeptImages(False)
    assert decide(shapes, data_service="grpc://localhost:1") == nothing
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        Image.new("RGB", (32, 32)).save(tmp_path / "pictures" / f"{number}.png")
    assert decide(folder.open_folder(str(tmp_path / "pictures"), unlabelled=True)) == nothing
    assert decide(shapes, train_split="train+test") == nothing
    builder = InTwoFiles(data_dir=str(tmp_path))
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=2))
    source = tfds_source.open_source("in_two_files", str(tmp_path))
    assert decide(source) == nothing
    assert (
        source.has_one_order("train[:40%]") and decide(source, train_split="train[:40%]").are_kept
    )


class InTwoFiles(tfds.core.GeneratorBasedBuilder):
    """Twenty images of one gray level each."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        image = tfds.features.Image(shape=(32, 32, 3))
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict({"image": image})
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for index in range(20):
            yield index, {"image": np.full((32, 32, 3), 10 * index, np.uint8)}


@pytest.mark.parametrize("on_device", [True, False])
@pytest.mark.parametrize("start", [0, 48])
def test_kept_images_come_in_the_same_order_with_the_same_views(shapes, on_device, start):
    """Over three epochs whose ends lie within batches."""

    def stream(cache):
        batches = streams.train(
            shapes,
            split="train[:40]",
            train_mode="pretrain",
            image_size=32,
            augment_on_device=on_device,
            start_example=start,
            cache=cache,
        )
        return itertools.islice(batches.as_numpy_iterator(), 8)

    for read, kept in zip(stream(cache=False), stream(cache=True), strict=True):
        for one, other in zip(read, kept, strict=True):
            np.testing.assert_array_equal(one, other)
