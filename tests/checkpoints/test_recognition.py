"""The network is recognized from the names and shapes of its variables."""

import dataclasses

import numpy as np
import pytest
from tests.small import parse

from tf_simclr.checkpoints import network_shapes, recognition, weights_file
from tf_simclr.checkpoints.formats.stored import SELECTOR_IS_HIDDEN, Stored
from tf_simclr.config import Config, saved_settings
from tf_simclr.errors import ConfigError
from tf_simclr.models.from_config import make_model

NETWORKS = [
    dict(resnet_depth=18, width_multiplier=0.125, image_size=32),
    dict(resnet_depth=34, width_multiplier=0.125, se_ratio=0.25),
    dict(resnet_depth=18, width_multiplier=0.25, sk_ratio=0.0625, num_proj_layers=2),
    dict(resnet_depth=50, width_multiplier=0.0625, sk_ratio=0.0625, proj_out_dim=64),
    dict(resnet_depth=50, width_multiplier=0.125, se_ratio=0.0625, proj_head_mode="linear"),
    dict(resnet_depth=50, width_multiplier=0.125, proj_head_mode="none", image_size=24),
    dict(resnet_depth=18, width_multiplier=0.125, ft_proj_selector=-1),
    dict(resnet_depth=34, width_multiplier=0.125, first_shortcut="identity"),
]


def stored_of(config: Config, num_classes=7) -> Stored:
    model = make_model(config.replace(seed=1), num_classes)
    shapes = {path: tuple(v.shape) for path, v in model.variables_by_path().items()}
    return Stored("a test", shapes, lambda name: np.zeros(shapes[name]))


@pytest.fixture(scope="module")
def networks():
    return [(settings, stored_of(Config().replace(**settings))) for settings in NETWORKS]


@pytest.mark.parametrize("index", range(len(NETWORKS)))
def test_shapes_show_the_network(networks, index):
    """The recognized settings build a network of the same variables."""
    settings, stored = networks[index]
    start = Config().replace(mode="predict")
    config = recognition.fit(start, stored, path="x")
    assert stored_of(config).shapes == stored.shapes
    for name, value in settings.items():
        if name not in ("image_size", "proj_out_dim") or value not in (24, 64):
            assert config.to_dict()[name] == value or name == "ft_proj_selector", name
    if settings.get("image_size"):
        assert config.data.image_size == 32


def test_settings_that_fit_keep_their_values(networks):
    for settings, stored in networks:
        config = Config().replace(**settings, mode="predict")
        assert recognition.fit(config, stored, path="x") == config


def test_a_flag_that_contradicts_the_weights_is_refused(networks):
    _, stored = networks[0]
    config = Config().replace(resnet_depth=50, width_multiplier=0.125)
    with pytest.raises(ConfigError, match="show resnet_depth=18, not 50: leave --resnet_depth out"):
        recognition.fit(config, stored, path="x", fixed=["resnet_depth"])


@pytest.mark.parametrize(
    "index, image_size, message",
    [
        (0, 64, "stem is that of small images: image_size must be 32 or less, got 64"),
        (1, 32, "stem is that of larger images: image_size must be 33 or more, got 32"),
    ],
)
def test_the_stem_decides_about_the_image_size(networks, index, image_size, message):
    with pytest.raises(ConfigError, match=message):
        recognition.fit(Config().replace(image_size=image_size), networks[index][1], path="x")


def test_what_no_shape_shows_is_taken_from_the_file_and_described(networks):
    _, stored = networks[7]
    hidden = {"max_pool_padding": "symmetric", "input_normalization": "imagenet"}
    stored = dataclasses.replace(stored, settings=hidden)
    config = recognition.fit(Config().replace(mode="predict"), stored, path="x")
    assert {name: config.to_dict()[name] for name in hidden} == hidden
    line = recognition.describe(stored, config)
    assert "input_normalization imagenet" in line and "first_shortcut identity" in line
    assert "max_pool_padding symmetric" in line
    start = Config().replace(mode="predict", input_normalization="cifar10")
    config = recognition.fit(start, stored, path="x", fixed=["input_normalization"])
    assert config.model.input_normalization == "cifar10"


def test_weights_without_projection_head(networks):
    """Pretraining starts a new head; fine-tuning and prediction do without."""
    _, stored = networks[5]
    for settings, mode in (
        (dict(train_mode="pretrain", mode="train"), "nonlinear"),
        (dict(train_mode="finetune", mode="train"), "none"),
        (dict(mode="predict"), "none"),
    ):
        config = recognition.fit(Config().replace(**settings), stored, path="x")
        assert config.model.proj_head_mode == mode


def test_a_schema_that_leaves_out_the_heads_leaves_their_settings(networks):
    _, stored = networks[3]
    for train_mode in ("pretrain", "finetune"):
        config = Config().replace(
            mode="train", variable_schema="(?!head)", train_mode=train_mode, resnet_depth=50
        )
        model = recognition.fit(config, stored, path="x").model
        assert (model.proj_head_mode, model.proj_out_dim) == ("nonlinear", 128)
    config = config.replace(variable_schema=None)
    assert recognition.fit(config, stored, path="x").model.proj_out_dim == 64


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s | {"base_model/block_group1/block9/conv1/kernel": (1, 1, 8, 8)}, "no ResNet"),
        (lambda s: {k: v for k, v in s.items() if "block_group4" not in k}, "no ResNet"),
        (lambda s: s | {"base_model/block_group2/block1/conv1/kernel": (3, 3, 8, 17)}, "channels"),
        (lambda s: s | {"head_supervised/dense/kernel": (3, 7)}, "takes 3 features"),
        (lambda s: s | {"base_model/stem/conv/kernel": ()}, "not those of a ResNet"),
        (lambda s: s | {"base_model/block_group4/block1/conv1/kernel": ()}, "not those of"),
    ],
)
def test_shapes_of_no_network_that_can_be_built(networks, change, message):
    stored = Stored("a test", change(dict(networks[0][1].shapes)), lambda name: np.zeros(1))
    with pytest.raises(ConfigError, match=message) as error:
        recognition.fit(Config().replace(mode="predict"), stored, path="x")
    assert "\n" not in str(error.value) and "give another" in str(error.value)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_run_keeps_the_network_that_it_has_adopted(tmp_path, mode):
    """A gin file of the command does not have it, and no shape shows it."""
    adopted = dict(input_normalization="imagenet", resnet_depth=18, max_pool_padding="symmetric")
    started = Config().replace(checkpoint="resnet.pth", temperature=0.5, **adopted)
    (tmp_path / "config.json").write_text(saved_settings.to_json(started))
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "ckpt-1"')
    (tmp_path / "ckpt-1.index").touch()
    command = Config().replace(mode=mode, model_dir=str(tmp_path), checkpoint="resnet.pth")
    config, _ = recognition.adopt(command, fixed=["max_pool_padding"])
    assert (config.model.input_normalization, config.model.resnet_depth) == ("imagenet", 18)
    assert config.model.max_pool_padding == "same" and config.loss.temperature == 0.1
    # A run that started without weights keeps the settings of the command.
    (tmp_path / "config.json").write_text(saved_settings.to_json(started.replace(checkpoint=None)))
    assert recognition.adopt(command) == (command, None)


def test_a_flag_of_the_selector_that_cannot_be_is_refused(networks):
    _, stored = networks[6]
    config = Config().replace(mode="predict", ft_proj_selector=0)
    assert recognition.fit(config, stored, path="x").model.ft_proj_selector != 0
    with pytest.raises(ConfigError, match="leave --ft_proj_selector out, or give another"):
        recognition.fit(config, stored, path="x", fixed=["ft_proj_selector"])


@pytest.mark.parametrize("sk_ratio, width", [(0.05, 1.25), (0.07, 1.75), (0.1, 1.5)])
def test_any_ratio_is_found_again(sk_ratio, width):
    shapes = {
        f"base_model/block_group{g}/block1/{layer}/kernel": shape
        for g, f in enumerate(int(64 * 2**i * width) for i in range(4))
        for layer, shape in (
            ("sk/reduce", (1, 1, f, max(int(f * sk_ratio), 32))),
            ("sk/expand", (1, 1, max(int(f * sk_ratio), 32), 2 * f)),
        )
    }
    kernels, _ = network_shapes._kernels_of_blocks(shapes)
    found = network_shapes._sk_ratio(shapes, kernels, 0.0)
    for _, _, layer in kernels:
        assert layer in ("sk/reduce", "sk/expand")
    for g, f in enumerate(int(64 * 2**i * width) for i in range(4)):
        assert max(int(f * found), 32) == kernels[g, 1, "sk/reduce"][-1]


def test_the_command_line_takes_the_network_from_the_checkpoint(golden):
    path = str(golden("models/r18_cifar"))
    arguments = (f"--checkpoint={path}", "--mode=train", "--train_mode=finetune", "--model_dir=new")
    config, line = recognition.adopt(parse(*arguments))
    assert (config.model.resnet_depth, config.model.width_multiplier) == (18, 0.125)
    assert line == (
        f"Recognized in {path}: a TF2 checkpoint of the official code; ResNet-18 0.125x, small "
        "stem, projection head of 3 layers to 128, 10 classes"
    )
    unchanged = parse(*arguments, "--mode=eval")
    assert recognition.adopt(unchanged) == (unchanged, None)


def test_notes_about_the_weights_follow(golden, tmp_path, monkeypatch):
    """Prediction itself says which layer the supervised head reads, if it needs the head."""
    path = str(golden("models/r18_cifar"))
    predict = parse(
        f"--checkpoint={path}",
        "--mode=predict",
        f"--images={tmp_path}",
        f"--output={tmp_path}/out.csv",
    )
    stored = weights_file.open_weights(path)
    assert SELECTOR_IS_HIDDEN in stored.notes
    stored = dataclasses.replace(stored, notes=(*stored.notes, "a note"))
    monkeypatch.setattr(weights_file, "open_weights", lambda _: stored)
    _, lines = recognition.adopt(predict)
    assert lines.splitlines()[1:] == ["Note: a note"]
