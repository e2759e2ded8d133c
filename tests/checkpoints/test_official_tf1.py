"""TF1 checkpoints of the official code: each number is the right layer, for every ResNet."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from tests import tf1_checkpoints

from tf_simclr.checkpoints import recognition, weights_file
from tf_simclr.checkpoints.formats.tensorflow import official_tf1
from tf_simclr.checkpoints.weights import restore_weights
from tf_simclr.config import Config
from tf_simclr.errors import ConfigError


@pytest.mark.parametrize("depth", tf1_checkpoints.BLOCKS)
@pytest.mark.parametrize("width", [0.0625, 1, 3])
@pytest.mark.parametrize("se", [0.0, 0.25])
@pytest.mark.parametrize("small_stem", [False, True])
def test_shapes_say_which_layer_a_number_is(depth, width, se, small_stem):
    for sk in (0.0, 0.0625) if depth >= 50 else (0.0,):
        names, shapes = tf1_checkpoints.encoder(depth, width, sk, se, small_stem)
        in_file = {names[path]: shape for path, shape in shapes.items()}
        assert official_tf1.paths(in_file) == names


@pytest.mark.parametrize(
    "network, settings",
    [
        (dict(depth=18, width=0.0625, small_stem=True), dict(image_size=32)),
        (dict(depth=34, width=0.125, se=0.25), dict(se_ratio=0.25)),
        (dict(depth=50, width=0.0625, sk=0.0625), dict(sk_ratio=0.0625, num_proj_layers=2)),
        (dict(depth=50, width=0.125), dict(proj_head_mode="none")),
        (dict(depth=18, width=0.125), dict(proj_head_mode="linear", num_classes=None)),
    ],
)
def test_a_model_returns_from_a_tf1_checkpoint(
    tiny_model, randomize, values, tmp_path, network, settings
):
    settings = dict(image_size=64) | settings
    model = tiny_model(resnet_depth=network["depth"], width_multiplier=network["width"], **settings)
    randomize(model)
    path = tf1_checkpoints.write_model(tmp_path / "model.ckpt-12345", model, **network)
    before = values(model)
    stored = weights_file.open_weights(str(tmp_path))
    assert stored.kind == "a TF1 checkpoint of the official code"
    assert stored.shapes == {name: value.shape for name, value in before.items()}
    for name, value in before.items():
        np.testing.assert_array_equal(stored.read(name), value, err_msg=name)
    config = recognition.fit(Config().replace(mode="predict"), stored, path=path)
    assert config.model.resnet_depth == network["depth"]
    assert config.model.width_multiplier == network["width"]
    assert config.data.image_size == (32 if network.get("small_stem") else 224)
    assert config.model.sk_ratio == network.get("sk", 0)
    assert config.model.se_ratio == network.get("se", 0)
    assert stored.num_classes == settings.get("num_classes", 5)


@pytest.fixture(scope="module")
def names_and_shapes():
    return tf1_checkpoints.encoder(50, 0.0625)


@pytest.fixture(scope="module")
def in_file(names_and_shapes):
    names, shapes = names_and_shapes
    return {names[path]: shape for path, shape in shapes.items()}


def test_slots_counters_and_moving_averages_are_left_out(names_and_shapes, in_file):
    names, _ = names_and_shapes
    slots = {
        f"{key}/{slot}": shape
        for key, shape in in_file.items()
        for slot in ("Momentum", "Adam", "Adam_1", "ExponentialMovingAverage")
    }
    averages = {f"ema_model/{key}": shape for key, shape in in_file.items()}
    counters = {"global_step": (), "beta1_power": ()}
    assert official_tf1.paths(in_file | slots | averages | counters) == names


def test_heads(names_and_shapes, in_file):
    heads = {
        "head_contrastive/nl_0/dense/kernel": "head_contrastive/layer1/dense/kernel",
        "head_contrastive/nl_0/batch_normalization/beta": "head_contrastive/layer1/dense/bn/beta",
        "head_contrastive/nl_1/batch_normalization/gamma": "head_contrastive/layer2/dense/bn/gamma",
        "head_contrastive/l_0/dense/kernel": "head_contrastive/layer1/dense/kernel",
        "head_supervised/linear_layer/dense/kernel": "head_supervised/dense/kernel",
        "head_supervised/linear_layer/dense/bias": "head_supervised/dense/bias",
    }
    for key, path in heads.items():
        assert official_tf1.paths(in_file | {key: (4, 4)})[path] == key


def without(*keys):
    return lambda file: {key: shape for key, shape in file.items() if key not in keys}


def test_is_official(in_file):
    assert official_tf1.is_official(in_file)
    assert not official_tf1.is_official(
        ["base_model/stem/conv/kernel", "base_model/conv2d_x/kernel"]
    )


@pytest.mark.parametrize(
    "change, message",
    [
        (without("base_model/conv2d_17/kernel"), "it lacks base_model/conv2d_17"),
        (without("base_model/conv2d/kernel"), "it lacks base_model/conv2d"),
        (without("base_model/conv2d_52/kernel"), "it lacks the convolution .*/block3/conv3"),
        (
            without(*(f"base_model/conv2d_{n}/kernel" for n in (3, 5, 7, 9, 11))),
            "it lacks base_model/conv2d_3, base_model/conv2d_5, base_model/conv2d_7 and 2 more",
        ),
        (lambda file: {k: s for k, s in file.items() if "conv2d" not in k}, "it lacks .*conv2d"),
        (lambda file: {k: s for k, s in file.items() if "conv2d" in k}, "lacks .*batch_norm"),
        (
            lambda file: {k: s for k, s in file.items() if "normalization_52/" not in k},
            "it has 52 batch normalizations, but its convolutions need 53",
        ),
        (
            lambda file: file | {"base_model/conv2d_5/bias": (4,)},  # only se layers have a bias
            r"conv2d_6/kernel has shape \(3, 3, 4, 4\), unlike .*/block1/se/expand",
        ),
        (
            lambda file: file | {"base_model/attention/kernel": (1,), "decoder/kernel": (2,)},
            "it has unknown variables: base_model/attention/kernel, decoder/kernel$",
        ),
        (lambda file: file | {"base_model/conv2d_1/depthwise": (1,)}, "unknown .*depthwise"),
        (lambda file: file | {"base_model/conv2d_60/kernel": (1, 1, 4, 4)}, "lacks .*conv2d_53"),
        (lambda file: file | {"base_model/conv2d_99999/kernel": ()}, "lacks .* and 999.. more"),
        (lambda file: file | {"base_model/conv2d_5/kernel": ()}, "unlike|lacks"),
        (lambda file: file | {"base_model/conv2d_5/kernel": (2**40,)}, "unlike|lacks"),
        (lambda file: dict.fromkeys(file, ()), "base_model/conv2d/kernel has shape \\(\\), unlike"),
        (lambda file: {"base_model/conv2d/kernel": (7, 7, 3, 64)}, "lacks .*batch_normalization"),
    ],
)
def test_what_is_no_resnet_is_an_error(in_file, change, message):
    with pytest.raises(ValueError, match=message) as error:
        official_tf1.paths(change(dict(in_file)))
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_an_error_is_one_line_that_names_the_file(tmp_path, in_file):
    values = {key: np.zeros(shape, np.float32) for key, shape in in_file.items()}
    del values["base_model/conv2d_17/kernel"]
    prefix = tf1_checkpoints.write(tmp_path / "model.ckpt-1", values)
    with pytest.raises(ConfigError, match="lacks base_model/conv2d_17.*: give another") as error:
        weights_file.open_weights(prefix)
    assert prefix in str(error.value) and "\n" not in str(error.value)


def test_variables_of_another_type_are_refused(tmp_path, in_file):
    values = {key: np.zeros(shape, np.float32) for key, shape in in_file.items()}
    values["base_model/conv2d_3/kernel"] = values["base_model/conv2d_3/kernel"].astype(np.int32)
    prefix = tf1_checkpoints.write(tmp_path / "model.ckpt-1", values)
    with pytest.raises(ConfigError, match="block1/conv2/kernel is int32"):
        weights_file.open_weights(prefix)


def test_notes_say_what_the_file_does_not_show(tmp_path, in_file):
    values = {key: np.zeros(shape, np.float32) for key, shape in in_file.items()}
    assert weights_file.open_weights(tf1_checkpoints.write(tmp_path / "a-1", values)).notes == ()
    values |= {
        "ema_model/base_model/conv2d/kernel": np.zeros(1, np.float32),
        "head_contrastive/nl_0/dense/kernel": np.zeros((128, 128), np.float32),
        "head_supervised/linear_layer/dense/kernel": np.zeros((128, 10), np.float32),
    }
    notes = weights_file.open_weights(tf1_checkpoints.write(tmp_path / "b-1", values)).notes
    assert "ema_model" in notes[0] and "--ft_proj_selector" in notes[1]


def test_a_tf1_hub_module_is_read_by_its_variables(tmp_path, in_file):
    """The released hub modules have the same names, in variables/variables."""
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"not read")
    values = {key: np.ones(shape, np.float32) for key, shape in in_file.items()}
    tf1_checkpoints.write(tmp_path / "variables" / "variables", values)
    stored = weights_file.open_weights(str(tmp_path))
    assert stored.kind == "a TF1 SavedModel of the official code"
    assert len(stored.shapes) == len(in_file)


@pytest.mark.parametrize("name", ["r50", "r50_sk"])
def test_endpoints_equal_those_of_the_official_code(golden, tiny_model, randomize, name):
    folder = golden(f"tf1/{name}")
    expected = np.load(folder / "expected.npz")
    flags = dict(argument[2:].split("=") for argument in expected["args"])
    model = tiny_model(
        num_classes=1000,
        proj_out_dim=128,
        image_size=int(flags["image_size"]),
        resnet_depth=int(flags["resnet_depth"]),
        width_multiplier=float(flags["width_multiplier"]),
        sk_ratio=float(flags.get("sk_ratio", 0)),
    )
    randomize(model)
    report = restore_weights(model, str(folder))
    assert set(report.restored) == set(model.variables_by_path())
    endpoints = model(expected["x"], training=False)
    names = [key.removeprefix("eval|") for key in expected if key.startswith("eval|")]
    assert len(names) == 3
    for name in names:
        scale = np.abs(expected[f"eval|{name}"]).max()
        difference = np.abs(endpoints[name].numpy() - expected[f"eval|{name}"]).max()
        assert difference < 1e-5 * scale, name


def test_half_a_checkpoint_is_an_error_of_one_line(golden, tmp_path):
    for file in golden("tf1/r50").glob("model.ckpt*"):
        shutil.copyfile(file, tmp_path / file.name)
    data = next(tmp_path.glob("*.data-*"))
    data.write_bytes(data.read_bytes()[:5000])
    with pytest.raises(ConfigError, match="cannot be read .*: give another") as error:
        weights_file.open_weights(str(tmp_path))
    assert "\n" not in str(error.value)


def test_the_reader_reads_no_value_to_find_the_layers(monkeypatch, tmp_path, in_file):
    """A file may claim any size, so only names and shapes count until the model fits."""
    values = {key: np.zeros(shape, np.float32) for key, shape in in_file.items()}
    prefix = tf1_checkpoints.write(tmp_path / "model.ckpt-1", values)
    reader = tf.train.load_checkpoint(prefix)

    class NamesOnly:
        def get_variable_to_shape_map(self):
            return reader.get_variable_to_shape_map()

    assert len(official_tf1.checkpoint_keys(NamesOnly())) == len(in_file)
