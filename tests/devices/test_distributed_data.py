"""Each replica gets its part of the batches, and no thread of tf.data delays the end of a run."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import streams
from tf_simclr.data.sources import tfds_source
from tf_simclr.devices.distributed_data import distribute
from tf_simclr.modes import pictures


def numbers(context: tf.distribute.InputContext) -> tf.data.Dataset:
    return tf.data.Dataset.range(8).batch(context.get_per_replica_batch_size(4))


@pytest.mark.parametrize(
    "strategy, parts",
    [
        (tf.distribute.OneDeviceStrategy("CPU:0"), 1),
        (tf.distribute.get_strategy(), 1),
        (tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), 2),
    ],
)
def test_every_replica_gets_its_part_in_order(strategy, parts):
    read = []
    for batch in distribute(strategy, numbers):
        doubled = strategy.run(lambda x: 2 * x, args=(batch,))
        results = strategy.experimental_local_results(doubled)
        assert len(results) == parts
        read += [value.numpy() for value in results]
    np.testing.assert_array_equal(np.concatenate(read), 2 * np.arange(8))


def test_a_single_cpu_reads_the_data_set_itself():
    made = distribute(tf.distribute.OneDeviceStrategy("CPU:0"), numbers)
    assert isinstance(made, tf.data.Dataset)


@pytest.mark.parametrize("on_device, cache", [(True, False), (True, True), (False, False)])
def test_training_pipelines_are_not_tuned(shapes_dir, on_device, cache):
    """TensorFlow's thread that tunes may miss that it should stop, for up to a minute."""
    source = tfds_source.open_source("shapes", str(shapes_dir))
    dataset = streams.train(
        source,
        train_mode="pretrain",
        image_size=32,
        augment_on_device=on_device,
        cache=cache,
    )
    assert dataset.options().autotune.enabled is False


def test_evaluation_is_not_tuned(shapes_dir):
    source = tfds_source.open_source("shapes", str(shapes_dir))
    assert streams.evaluation(source).options().autotune.enabled is False


def test_prediction_is_not_tuned(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "red.png")
    made = []

    def distribute(strategy, make):
        made.append(make(tf.distribute.InputContext()))
        return made[0]

    monkeypatch.setattr(pictures.distributed_data, "distribute", distribute)
    (batch,) = pictures.compute_batches(
        tf.distribute.get_strategy(),
        lambda images: tf.reduce_mean(images, axis=(1, 2)),
        [str(tmp_path / "red.png")],
        pictures.PictureReader(None, max_megapixels=1),
        image_size=8,
        batch_size=2,
    )
    np.testing.assert_allclose(batch.values, [[1, 0, 0]])
    assert made[0].options().autotune.enabled is False


def test_every_pipeline_of_the_package_is_made_this_way(repo_root):
    """Only these two functions distribute and prefetch."""
    users = {name: set() for name in ("distribute_datasets_from_function", "prefetch(tf.data")}
    for path in (repo_root / "tf_simclr").rglob("*.py"):
        text = path.read_text()
        for name, found in users.items():
            if name in text:
                found.add(path.name)
    assert users == {
        "distribute_datasets_from_function": {"distributed_data.py"},
        "prefetch(tf.data": set(),
    }
