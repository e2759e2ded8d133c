"""What --augment_on=auto means; where a run goes on; which networks no device could hold."""

import types

import keras
import pytest
import tensorflow as tf

from hostile_pictures import noise, saved, write
from tf_simclr import bounds, build, experiment
from tf_simclr.config import Config
from tf_simclr.data.sources import opening
from tf_simclr.errors import ConfigError
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


@pytest.mark.parametrize(
    "settings, way_out",
    [
        ({}, "by --unlabelled, or --lineareval_while_pretraining=False"),
        (dict(mode="train_then_eval"), "by --unlabelled, or --linear"),
        (dict(mode="eval"), "by --unlabelled, or --linear"),
        (
            dict(train_mode="finetune"),
            "fine-tuning and its evaluation need pictures of at least one",
        ),
        (dict(train_mode="finetune", mode="eval"), "need pictures of at least one other class"),
        (dict(mode="probe"), "name data of two or more classes to probe with"),
        (dict(train_mode="distill", distill_label_weight=0.5), "by --distill_label_weight=0"),
        (dict(lineareval_while_pretraining=False, probe_summary=True), "--probe_summary=False"),
        (dict(lineareval_while_pretraining=False), None),
        (dict(train_mode="distill"), None),
        (dict(unlabelled=True), None),
    ],
)
def test_one_class_is_refused_where_labels_are_needed(tmp_path, settings, way_out):
    for split in ("train", "test"):
        write(tmp_path / split / "cat", {"a.png": saved(noise(16), format="PNG")})
    config = Config().replace(dataset="folder", data_dir=str(tmp_path), **settings)
    if way_out is None:
        assert opening.open_data(config, quiet=True).num_classes in (1, None)
        return
    with pytest.raises(ConfigError) as error:
        opening.open_data(config, quiet=True)
    message = str(error.value)
    assert message.startswith("dataset folder has the class 'cat' only in data_dir")
    assert way_out in message and "\n" not in message


def test_array_records_are_not_read_by_a_data_service(monkeypatch):
    source = types.SimpleNamespace(reads_in_this_process=True)
    monkeypatch.setattr(build, "open_source", lambda *args, **kwargs: source)
    with pytest.raises(ConfigError, match="data_service must be None with dataset=x.*TFRecord"):
        opening.open_data(Config().replace(dataset="x", data_service="grpc://host:1"))


@pytest.mark.parametrize("seen, start", [(0, 0), (32, 32), (33, 48), (40, 48)])
def test_a_run_goes_on_at_whole_steps_of_its_batch_size(monkeypatch, seen, start):
    """Which may have changed: 40 images are no whole number of batches of 16."""
    starts = []

    def train_batches(source, *, start_example, **settings):
        starts.append(start_example)
        return tf.data.Dataset.from_tensors(0)

    monkeypatch.setattr(build.batches, "train_batches", train_batches)
    config = Config().replace(train_batch_size=16, augment_on="host", seed=1)
    run_input.train_batches(config, None, tf.distribute.get_strategy(), examples_seen=seen)
    assert starts == [start]


def test_every_start_has_a_job_of_its_own_in_the_data_service(monkeypatch):
    """Whatever the run's seed: under an old name the service goes on where that start ended."""
    names = []

    def train_batches(source, *, service, **settings):
        names.append(service.job_name)
        return tf.data.Dataset.from_tensors(0)

    monkeypatch.setattr(build.batches, "train_batches", train_batches)
    config = Config().replace(train_batch_size=16, data_service="grpc://localhost:1", seed=1)
    for _ in range(2):
        keras.utils.set_random_seed(1)
        run_input.train_batches(config, None, tf.distribute.get_strategy(), examples_seen=0)
    assert names[0] != names[1]


TOO_LARGE = [
    (
        dict(width_multiplier=1e9),
        "width_multiplier 1e+09 makes a network of 2.3e+25 parameters (8.5e+13 TiB); the bound is "
        "1 TiB: give a smaller one",
    ),
    (dict(width_multiplier=1e308), "width_multiplier 1e+308 makes a network of 2.3e+623"),
    (
        dict(image_size=99999999),
        "image_size 99999999 makes activations of 5.8e+5 TiB for one image in the first block "
        "group",
    ),
    (dict(image_size=99999999, precision="bfloat16"), "image_size 99999999 makes activat"),
    (dict(image_size=10**400), "image_size 1000000"),
    (dict(proj_out_dim=10**12), "proj_out_dim 1000000000000 and num_proj_layers 3 make a proje"),
    (dict(num_proj_layers=10**9), "proj_out_dim 128 and num_proj_layers 1000000000 make a proje"),
]


@pytest.mark.parametrize("values, message", TOO_LARGE)
def test_what_no_device_could_hold_is_refused_before_anything_else(
    tmp_path, monkeypatch, values, message
):
    def touched(*_, **__):
        raise AssertionError("data or devices were looked at")

    for name in ("open_data", "make_strategy"):
        monkeypatch.setattr(build, name, touched)
    monkeypatch.setattr(experiment.strategies, "divide_cpu", touched)
    for mode in ("train", "eval", "probe", "predict"):
        config = Config().replace(**values, mode=mode, seed=0, model_dir=str(tmp_path / "new"))
        with pytest.raises(ConfigError) as error:
            experiment.run(config)
        assert str(error.value).startswith(message) and "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "values",
    [
        dict(),
        dict(resnet_depth=200, width_multiplier=10, sk_ratio=0.0625),
        dict(resnet_depth=152, width_multiplier=3, sk_ratio=0.0625, image_size=4096),
        dict(image_size=100_000, resnet_depth=18),
        dict(width_multiplier=0.01),
        dict(proj_out_dim=10**6, num_proj_layers=100),
    ],
    ids=str,
)
def test_what_a_large_machine_could_hold_is_not_refused(values):
    bounds.check_size(Config().replace(**values))
