"""TFLite files: they compute what the model computes, and a hostile one is an error of one line."""

import io
import sys
import zipfile

import numpy as np
import pytest

import hostile_models
from tf_simclr.checkpoints import about_file
from tf_simclr.checkpoints.formats.runtimes import sessions, tflite_file
from tf_simclr.errors import ConfigError

pytest.importorskip("ai_edge_litert", reason="the extra tflite is not installed")

ABOUT = {
    "image_size": 32,
    "class_names": ["ant", "bee", "cat", "dog", "eel"],
    "preparation": {"image_range": [5, 500]},
}
ENDPOINTS = {"final_avg_pool", "proj_head_output", "logits_sup"}


def pixels(n, size=32, seed=0):
    return np.random.default_rng(seed).uniform(size=(n, size, size, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model(short_model):
    return short_model()


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    """Function: kind -> path of the model's file of that kind."""
    folder, paths = tmp_path_factory.mktemp("tflite"), {}

    def write(kind) -> str:
        if kind not in paths:
            paths[kind] = str(folder / f"{kind}.tflite")
            tflite_file.write(
                model, paths[kind], image_size=32, quantize=kind, images=pixels(32), about=ABOUT
            )
        return paths[kind]

    return write


def error_of(path) -> str:
    with pytest.raises(ConfigError) as error:
        tflite_file.load(str(path))
    assert "\n" not in str(error.value) and repr(str(path)) in str(error.value)
    return str(error.value)


def differences(runner, model, images) -> dict[str, float]:
    """The largest difference of each endpoint, relative to its largest value."""
    wanted = model(images, training=False)
    outputs = runner.endpoints(images)
    assert set(outputs) == set(runner.widths)
    found = {}
    for name, value in outputs.items():
        expected = wanted[name].numpy()
        assert expected.std() > 0, f"{name} is constant, which would hide a difference"
        assert value.shape == expected.shape
        found[name] = np.abs(value - expected).max() / np.abs(expected).max()
    return found


@pytest.mark.parametrize(
    ("kind", "tolerance"), [("float32", 1e-5), ("float16", 5e-3), ("int8", 0.1)]
)
def test_each_kind_computes_what_the_model_computes(model, written, kind, tolerance):
    runner = tflite_file.load(written(kind))
    assert runner.image_size == 32 and set(runner.widths) == ENDPOINTS
    # Any number of images, one after the other.
    for n in (7, 1, 3):
        found = differences(runner, model, pixels(n, seed=n))
        assert max(found.values()) < tolerance
        if kind != "float32":
            assert max(found.values()) > 1e-6, "its weights have fewer bits"


def test_fewer_bits_make_smaller_files(written):
    sizes = [len(open(written(kind), "rb").read()) for kind in ("float32", "float16", "int8")]
    assert sizes[0] > sizes[1] > sizes[2]


def test_int8_computes_in_8_bits(written):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=written("int8"))
    types = {d["name"]: np.dtype(d["dtype"]).name for d in interpreter.get_tensor_details()}
    floats = [name for name, dtype in types.items() if dtype.startswith("float")]
    assert len(floats) == 1 + len(ENDPOINTS)  # the images and the endpoints


@pytest.mark.parametrize(
    "settings",
    [
        {"resnet_depth": 50, "sk_ratio": 0.0625, "image_size": 64},
        {"num_classes": None, "proj_head_mode": "none", "se_ratio": 0.25},
    ],
    ids=["selective kernels, large stem", "no heads"],
)
def test_other_networks(short_model, tmp_path, settings):
    model, path = short_model(**settings), str(tmp_path / "model.tflite")
    size = settings.get("image_size", 32)
    tflite_file.write(model, path, image_size=size)
    runner = tflite_file.load(path)
    assert set(runner.widths) == ({"final_avg_pool"} if "num_classes" in settings else ENDPOINTS)
    assert max(differences(runner, model, pixels(2, size)).values()) < 1e-5


def test_int8_of_a_layer_that_is_zero_runs_without_xnnpack(short_model, tmp_path):
    """XNNPACK cannot make a runtime for it."""
    model, path = short_model(se_ratio=0.25), str(tmp_path / "model.tflite")
    for name, variable in model.variables_by_path().items():
        if name.endswith("se/reduce/bias"):
            variable.assign(np.full(variable.shape, -1000))
    tflite_file.write(model, path, image_size=32, quantize="int8", images=pixels(8))
    assert max(differences(tflite_file.load(path), model, pixels(2)).values()) < 0.1


def test_the_file_alone_tells_its_metadata(written):
    runner = tflite_file.load(written("float32"))
    assert runner.about.class_names == tuple(ABOUT["class_names"])
    assert tuple(runner.about.image_range) == (5, 500)
    with zipfile.ZipFile(written("float32")) as archive:  # as `unzip` does
        assert archive.namelist() == ["about.json"]


def test_metadata_beside_a_file_without_any_is_read(written, tmp_path):
    content = open(written("float32"), "rb").read()
    path = tmp_path / "model.tflite"
    path.write_bytes(content[: content.index(b"PK\x03\x04")])
    about_file.write_about(str(tmp_path), ABOUT | {"image_size": 48})
    runner = tflite_file.load(str(path))
    assert runner.about.class_names == tuple(ABOUT["class_names"])
    assert runner.image_size == 32  # what the graph takes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantize": "int8"}, r"needs representative images.* \(m, 32, 32, 3\), got None"),
        ({"quantize": "int8", "images": pixels(2, 16)}, r"got \(2, 16, 16, 3\)"),
        ({"quantize": "int4"}, "quantize must be one of float32, float16, int8, got 'int4'"),
    ],
)
def test_wrong_arguments(model, tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        tflite_file.write(model, str(tmp_path / "model.tflite"), image_size=32, **arguments)
    assert list(tmp_path.iterdir()) == []


def archived(content: bytes, text: bytes, method=zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO(content[: content.index(b"PK\x03\x04")])
    with zipfile.ZipFile(file, "a", method) as archive:
        archive.writestr("about.json", text)
    return file.getvalue()


HOSTILE = {
    "empty": lambda content: b"",
    "text": lambda content: b"this is no model",
    "random": lambda content: np.random.default_rng(0).bytes(10_000),
    "only an identifier": lambda content: b"\x1c\0\0\0TFL3",
    "half": lambda content: content[: len(content) // 2],
    "metadata is no JSON": lambda content: archived(content, b"{"),
    "metadata is deep": lambda content: archived(content, b"[" * 100_000),
    "metadata of a type": lambda content: archived(content, b'{"class_names": {"a": 1}}'),
    "metadata is a bomb": lambda content: archived(content, bytes(2**25), zipfile.ZIP_DEFLATED),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_an_error_of_one_line(written, tmp_path, name):
    path = tmp_path / "model.tflite"
    path.write_bytes(HOSTILE[name](open(written("float32"), "rb").read()))
    message = error_of(path)
    assert ("more than 16777216 bytes" in message) == name.endswith("bomb")


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """Function: signatures {name: (function, shape)} -> bytes of a TFLite file of them."""
    import tensorflow as tf

    def make(signatures, dtype=tf.float32) -> bytes:
        module, traced = tf.Module(), {}
        for name, (function, shape) in signatures.items():
            images = tf.TensorSpec(shape, dtype, name="images")
            traced[name] = tf.function(function, autograph=False).get_concrete_function(images)
        folder = str(tmp_path_factory.mktemp("graph"))
        tf.saved_model.save(module, folder, signatures=traced)
        return tf.lite.TFLiteConverter.from_saved_model(folder, list(traced)).convert()

    return make


@pytest.mark.parametrize(
    ("endpoint", "shape", "dtype", "message"),
    [
        ("final_avg_pool", (1, 8, 8, 3), "float32", "for any n, but takes tensor(float) (1, 8, "),
        ("final_avg_pool", (None, 8, 6, 3), "float32", "takes tensor(float) (any, 8, 6, 3)"),
        ("final_avg_pool", (None, 8, 8, 3), "int32", "takes tensor(int32) (any, 8, 8, 3)"),
        (
            "my_output",
            (None, 8, 8, 3),
            "float32",
            "no output 'final_avg_pool'; its outputs are 'my_output'",
        ),
    ],
)
def test_a_model_of_another_program(graph, tmp_path, endpoint, shape, dtype, message):
    path = tmp_path / "model.tflite"

    def pool(images):
        return {endpoint: images[:, 0, 0]}

    path.write_bytes(graph({"serving_default": (pool, shape)}, dtype))
    assert message in error_of(path)


@pytest.mark.parametrize(
    "number", [6, pytest.param(60, marks=[pytest.mark.long, pytest.mark.shared])]
)
def test_a_damaged_file_is_an_error_or_runs(written, tmp_path, number):
    path = tmp_path / "model.tflite"
    for content in hostile_models.mutations(open(written("float32"), "rb").read(), number):
        path.write_bytes(content)
        try:
            tflite_file.load(str(path))
        except ConfigError as error:
            assert "\n" not in str(error)


def test_a_runtime_that_crashes_does_so_in_a_process_of_its_own(written, monkeypatch):
    monkeypatch.setattr(sessions, "_CHILD", "import os; os.abort()")
    assert "its runtime crashed (code -6)" in error_of(written("float32"))


def test_tensorflow_runs_a_model_without_litert(model, written, monkeypatch):
    tf = pytest.importorskip("tensorflow")
    if not hasattr(tf.lite, "Interpreter"):
        pytest.skip("this TensorFlow has no interpreter of TFLite")
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    runner = tflite_file.load(written("float32"))
    assert max(differences(runner, model, pixels(2)).values()) < 1e-5


def test_without_any_interpreter_litert_is_named(written, monkeypatch):
    import tensorflow as tf

    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    monkeypatch.delattr(tf.lite, "Interpreter", raising=False)
    with pytest.raises(ConfigError, match=r"pip install '.\[tflite\]'") as error:
        tflite_file.load(written("float32"))
    assert "\n" not in str(error.value)


def test_a_file_is_known_by_its_name_or_its_first_bytes(written, tmp_path):
    other = tmp_path / "model.bin"
    other.write_bytes(open(written("float32"), "rb").read())
    assert tflite_file.matches(written("float32")) and tflite_file.matches(str(other))
    other.write_bytes(b"something")
    assert not tflite_file.matches(str(other))
    assert not tflite_file.matches(str(tmp_path / "none"))
