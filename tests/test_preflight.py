"""What is refused before anything is built: data of one class, networks that no device holds."""

import types

import pytest

from hostile_pictures import noise, saved, write
from tf_simclr import experiment, preflight
from tf_simclr.config import Config
from tf_simclr.data.sources import opening
from tf_simclr.devices import strategies
from tf_simclr.errors import ConfigError
from tf_simclr.models import bounds


@pytest.mark.parametrize(
    "settings, way_out",
    [
        ({}, "set --unlabelled, or --lineareval_while_pretraining=False, to"),
        (dict(mode="train_then_eval"), "set --unlabelled, or --linear"),
        (dict(mode="eval"), "set --unlabelled, or --linear"),
        (
            dict(train_mode="finetune"),
            "fine-tuning and its evaluation need images of at least one",
        ),
        (dict(train_mode="finetune", mode="eval"), "need images of at least one other class"),
        (dict(mode="probe"), "probe with data of two or more classes"),
        (dict(train_mode="distill", distill_label_weight=0.5), "set --distill_label_weight=0 to"),
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
    source = opening.open_data(config, quiet=True)
    if way_out is None:
        preflight.check_class_count(config, source)
        return
    with pytest.raises(ConfigError) as error:
        preflight.check_class_count(config, source)
    message = str(error.value)
    assert message.startswith("dataset folder has only the class 'cat' in data_dir")
    assert way_out in message and "\n" not in message


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


@pytest.mark.parametrize(
    "metric, num_classes, is_refused",
    [
        ("monitor/knn_top_1", None, True),
        ("monitor/knn_top_1", 2, False),
        ("eval/label_top_5_accuracy", 4, True),
        ("eval/label_top_5_accuracy", 5, False),
        ("monitor/rankme", None, False),
    ],
)
def test_a_best_metric_that_cannot_be_measured_is_refused(metric, num_classes, is_refused):
    config = Config().replace(best_metric=metric)
    source = types.SimpleNamespace(name="pictures", num_classes=num_classes)
    if not is_refused:
        return preflight.check_best_metric(config, source)
    with pytest.raises(ConfigError, match=f"got {metric}: it needs at least"):
        preflight.check_best_metric(config, source)


@pytest.mark.parametrize("values, message", TOO_LARGE)
def test_what_no_device_could_hold_is_refused_before_anything_else(
    tmp_path, monkeypatch, values, message
):
    def touched(*_, **__):
        raise AssertionError("data or devices were looked at")

    monkeypatch.setattr(opening, "open_source", touched)
    for name in ("make_strategy", "configure_cpu_replicas"):
        monkeypatch.setattr(strategies, name, touched)
    for mode in ("train", "eval", "probe", "predict"):
        more = dict(images="x", checkpoint="y") if mode == "predict" else {}
        settings = values | more | dict(mode=mode, seed=0, model_dir=str(tmp_path / "new"))
        config = Config().replace(**settings)
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
