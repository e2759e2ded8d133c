"""ONNX files: they compute what the model computes, and a hostile one is an error of one line."""

import sys

import numpy as np
import pytest

import hostile_models
from tf_simclr.checkpoints import about_file
from tf_simclr.checkpoints.formats.runtimes import inference, onnx_file, sessions
from tf_simclr.errors import ConfigError

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("tf2onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

ABOUT = {
    "image_size": 32,
    "class_names": ["ant", "bee", "cat", "dog", "eel"],
    "preparation": {"image_range": [5, 500]},
}


def pixels(n, size, seed=0):
    return np.random.default_rng(seed).uniform(size=(n, size, size, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model(short_model, randomize):
    model = short_model()
    randomize(model)
    return model


@pytest.fixture(scope="module")
def path(model, tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("onnx") / "model.onnx")
    onnx_file.write(model, path, about=ABOUT)
    return path


def error_of(path) -> str:
    with pytest.raises(ConfigError) as error:
        onnx_file.load(str(path))
    assert "\n" not in str(error.value) and repr(str(path)) in str(error.value)
    return str(error.value)


def agrees(outputs, model, images):
    wanted = model(images, training=False)
    for name, value in outputs.items():
        expected = wanted[name].numpy()
        assert expected.std() > 0, f"{name} is constant, which would hide a difference"
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("n", "size"), [(1, 32), (5, 32), (3, 48)])
def test_any_number_of_images_of_any_size(model, path, n, size):
    runner, images = onnx_file.load(path), pixels(n, size)
    outputs = runner.endpoints(images)
    assert set(outputs) == {"final_avg_pool", "proj_head_output", "logits_sup"}
    assert runner.widths == {name: value.shape[1] for name, value in outputs.items()}
    agrees(outputs, model, images)


def test_the_file_alone_tells_its_metadata(path):
    runner = onnx_file.load(path)
    assert runner.image_size == 32
    assert runner.about.class_names == tuple(ABOUT["class_names"])
    assert tuple(runner.about.image_range) == (5, 500)


def test_metadata_beside_a_file_without_any_is_read(model, tmp_path):
    path = str(tmp_path / "model.onnx")
    onnx_file.write(model, path)
    assert onnx_file.load(path).image_size is None
    about_file.write_about(str(tmp_path), ABOUT | {"class_names": ["one", "two"]})
    runner = onnx_file.load(path)
    assert runner.image_size == 32
    assert runner.about.class_names is None  # there are five logits


@pytest.mark.parametrize(
    "settings",
    [
        {"resnet_depth": 50, "sk_ratio": 0.0625, "image_size": 64},
        {"resnet_depth": 50, "se_ratio": 0.25, "ft_proj_selector": 1},
        {"num_classes": None, "proj_head_mode": "none"},
    ],
    ids=["selective kernels, large stem", "squeeze-and-excitation", "no heads"],
)
def test_every_kind_of_network(short_model, randomize, tmp_path, settings):
    model, path = short_model(**settings), str(tmp_path / "model.onnx")
    randomize(model)
    onnx_file.write(model, path)
    runner, images = onnx_file.load(path), pixels(2, settings.get("image_size", 32))
    expected = {"final_avg_pool"}
    if "num_classes" not in settings:
        expected |= {"proj_head_output", "logits_sup"}
    assert set(runner.widths) == expected
    agrees(runner.endpoints(images), model, images)


def test_the_graph_is_plain(short_model, tmp_path):
    """Batch normalizations are part of convolutions, whose layout is that of ONNX throughout."""
    path = str(tmp_path / "model.onnx")
    onnx_file.write(short_model(width_multiplier=0.25), path)
    proto = onnx.load(path)
    operations = [node.op_type for node in proto.graph.node]
    assert operations.count("Transpose") <= 2
    assert operations.count("BatchNormalization") == 3  # of the projection head
    sizes = [d.dim_param or d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", "height", "width", 3]
    for output in proto.graph.output:
        assert output.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert {o.domain: o.version for o in proto.opset_import}[""] == onnx_file.OPSET


@pytest.mark.parametrize("name", hostile_models.MAKERS)
def test_a_hostile_file_is_an_error_of_one_line(path, tmp_path, name):
    file = tmp_path / "model.onnx"
    file.write_bytes(hostile_models.MAKERS[name](onnx, open(path, "rb").read()))
    message = error_of(file)
    words = {
        "external": "its weights are in other files",
        "custom": "com.example is not a standard operation",
        "loop": "control flow",
        "fixed": r"for any n, but takes tensor(float) (1, any, any, 3)",
        "type of the input": "but takes tensor(double)",
        "no endpoint": "it has no output 'final_avg_pool'; its outputs are 'my_",
        "scalar": "must be float32 (n, width), and is float32 ()",
        "metadata of a size": "images have 1000000000 pixels",
    }
    for beginning, text in words.items():
        assert not name.startswith(beginning) or text in message


@pytest.mark.parametrize(
    "number", [6, pytest.param(60, marks=[pytest.mark.long, pytest.mark.shared])]
)
def test_a_damaged_file_is_an_error_or_runs(path, tmp_path, number):
    file = tmp_path / "model.onnx"
    for content in hostile_models.mutations(open(path, "rb").read(), number):
        file.write_bytes(content)
        try:
            onnx_file.load(str(file))
        except ConfigError as error:
            assert "\n" not in str(error)


def test_a_runtime_that_crashes_does_so_in_a_process_of_its_own(path, monkeypatch):
    monkeypatch.setattr(sessions, "_CHILD", "import os; os.abort()")
    assert "its runtime crashed (code -6)" in error_of(path)


def test_a_model_without_end_is_stopped(path, monkeypatch):
    monkeypatch.setattr(sessions, "_CHILD", "while True: pass")
    monkeypatch.setattr(sessions, "SECONDS", 0.5)
    assert "did not finish within 0.5 seconds" in error_of(path)


def test_more_than_two_gibibytes_are_refused(model, path, tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "MAX_BYTES", 1000)
    assert "it has more than 1000 bytes" in error_of(path)
    with pytest.raises(ConfigError, match="this format holds at most 2 GiB: export a SavedModel"):
        onnx_file.write(model, str(tmp_path / "new.onnx"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    message = error_of(path)
    assert f"needs the package {package}," in message and "pip install '.[onnx]'" in message
