"""Where views are augmented, and where the input of a run goes on."""

import types

import keras
import pytest
import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.training import run_input

CPU = tf.distribute.OneDeviceStrategy("CPU:0")
GPU = types.SimpleNamespace(extended=types.SimpleNamespace(worker_devices=("/device:GPU:0",)))


@pytest.mark.parametrize(
    "settings, stored, strategy, expected",
    [
        (dict(image_size=32), (32, 32, 3), CPU, True),
        (dict(image_size=96), (96, 96, 3), CPU, False),
        (dict(image_size=32), (None, None, 3), CPU, False),
        (dict(image_size=224), (None, None, 3), CPU, False),
        (dict(image_size=224), (None, None, 3), GPU, True),
        (dict(image_size=96), (96, 96, 3), GPU, True),
        (dict(image_size=32, data_service="grpc://x:1"), (32, 32, 3), GPU, False),
        (dict(image_size=224, augment_on="device"), (None, None, 3), CPU, True),
        (dict(image_size=32, augment_on="host"), (32, 32, 3), GPU, False),
    ],
)
def test_where_views_are_augmented(settings, stored, strategy, expected):
    source = types.SimpleNamespace(image_shape=stored)
    config = Config().replace(**settings)
    assert run_input.augments_on_device(config, source, strategy) == expected


@pytest.mark.parametrize("seen, start", [(0, 0), (32, 32), (33, 48), (40, 48)])
def test_a_run_goes_on_at_whole_steps_of_its_batch_size(monkeypatch, seen, start):
    """Which may have changed: 40 images are no whole number of batches of 16."""
    starts = []

    def train_batches(source, settings, views):
        starts.append(settings.start_example)
        return tf.data.Dataset.from_tensors(0)

    monkeypatch.setattr(run_input.batches, "train_batches", train_batches)
    config = Config().replace(train_batch_size=16, augment_on="host", seed=1)
    run_input.train_batches(config, None, tf.distribute.get_strategy(), examples_seen=seen)
    assert starts == [start]


def test_every_start_has_a_job_of_its_own_in_the_data_service(monkeypatch):
    """Whatever the run's seed: under an old name the service goes on where that start ended."""
    names = []

    def train_batches(source, settings, views):
        names.append(settings.service.job_name)
        return tf.data.Dataset.from_tensors(0)

    monkeypatch.setattr(run_input.batches, "train_batches", train_batches)
    config = Config().replace(train_batch_size=16, data_service="grpc://localhost:1", seed=1)
    for _ in range(2):
        keras.utils.set_random_seed(1)
        run_input.train_batches(config, None, tf.distribute.get_strategy(), examples_seen=0)
    assert names[0] != names[1]
