"""The SavedModel, as those use it who do not have this package."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.checkpoints.formats import saved_model

IMAGES = np.random.default_rng(0).uniform(size=(4, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model(short_model, randomize):
    created = short_model(stop_supervised_gradient=True)
    randomize(created)
    return created


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    directory = tmp_path_factory.mktemp("run") / "saved_model"
    return saved_model.export(model, str(directory), 7, keep=1)


@pytest.fixture
def loaded(path):
    return tf.saved_model.load(path)


def assert_same(result, expected, rtol=1e-4, atol=1e-4):
    assert set(result) == set(expected)
    for name in expected:
        np.testing.assert_allclose(result[name], expected[name], rtol, atol, err_msg=name)


def test_lies_under_its_step(path):
    assert path.endswith("saved_model/7") and tf.saved_model.contains_saved_model(path)


@pytest.mark.parametrize("size", [32, 48])
def test_endpoints_are_the_models_for_any_size(model, loaded, size):
    images = np.random.default_rng(1).uniform(size=(2, size, size, 3)).astype(np.float32)
    expected = model(images, training=False)
    for result in (
        loaded(images),
        loaded(images, trainable=False),
        loaded(images, False),
        loaded(images, training=False),
    ):
        assert_same(result, expected)


def test_trainable_normalizes_by_the_batch_and_has_no_blur(model, values, loaded):
    """Equal to the model without any blur, each time."""
    before = values(model)
    expected = model(IMAGES, training=True)
    for path, variable in model.variables_by_path().items():
        variable.assign(before[path])  # the pass has moved the averages
    for _ in range(2):
        assert_same(loaded(IMAGES, trainable=True), expected, rtol=1e-3, atol=1e-3)
    assert_same(loaded(IMAGES, training=True), expected, rtol=1e-3, atol=1e-3)
    inference = model(IMAGES, training=False)
    assert np.abs(expected["final_avg_pool"] - inference["final_avg_pool"]).max() > 0.1


def test_the_signature_endpoints_is_inference(model, loaded):
    result = loaded.signatures["endpoints"](images=tf.constant(IMAGES))
    assert_same(result, model(IMAGES, training=False))


def test_can_be_trained(model, loaded):
    assert len(loaded.variables) == len(model.weights)
    assert len(loaded.trainable_variables) == len(model.trainable_variables)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(loaded(IMAGES, trainable=True)["proj_head_output"] ** 2)
    gradients = tape.gradient(loss, list(loaded.trainable_variables))
    reached = sum(g is not None and np.abs(g).max() > 0 for g in gradients)
    assert reached == len(gradients) - 2, "all but the supervised head's kernel and bias"


LOAD = """
import sys
sys.modules["tf_simclr"] = None  # an import of it fails
import numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
images = np.load(sys.argv[2])
np.save(sys.argv[3], loaded(images, trainable=False)["final_avg_pool"].numpy())
"""


def test_loads_without_this_package(tmp_path, model, path):
    np.save(tmp_path / "images.npy", IMAGES)
    files = [str(tmp_path / name) for name in ("images.npy", "found.npy")]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, path, *files], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    expected = model(IMAGES, training=False)["final_avg_pool"]
    np.testing.assert_allclose(np.load(files[1]), expected, rtol=1e-4, atol=1e-4)


def test_hub_keras_layer_takes_it(model, path):
    try:
        import tensorflow_hub as hub
    except ImportError as error:
        pytest.skip(f"tensorflow_hub does not import here: {error}")
    layer = hub.KerasLayer(path, trainable=True, output_key="final_avg_pool")
    expected = model(IMAGES, training=False)["final_avg_pool"]
    np.testing.assert_allclose(layer(IMAGES, training=False), expected, rtol=1e-4, atol=1e-4)
    assert len(layer.trainable_variables) == len(model.trainable_variables)
    assert np.abs(layer(IMAGES, training=True) - expected).max() > 0.1


@pytest.fixture
def quick(monkeypatch):
    """Exports a function that takes no time to trace."""

    def exportable(model, about):
        module = tf.train.Checkpoint()
        images = tf.TensorSpec((None,), tf.float32, name="images")
        function = tf.function(lambda images: {"images": images}, input_signature=[images])
        return saved_model.Exportable(module, {"serving_default": function})

    monkeypatch.setattr(saved_model, "exportable", exportable)


def names(directory) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_keeps_the_newest_by_number(quick, tmp_path):
    (tmp_path / "notes").mkdir()
    for step in (8, 9, 10, 100):
        saved_model.export(None, str(tmp_path), step, keep=2)
    assert names(tmp_path) == ["10", "100", "notes"]
    saved_model.export(None, str(tmp_path), 100, keep=2)  # again: it is replaced
    assert names(tmp_path) == ["10", "100", "notes"]


def test_half_an_export_never_bears_the_name(quick, tmp_path, monkeypatch):
    save = tf.saved_model.save

    def full(module, path, **kwargs):
        save(module, path, **kwargs)
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tf.saved_model, "save", full)
        with pytest.raises(OSError, match="no space"):
            saved_model.export(None, str(tmp_path), 5, keep=1)
    assert "5" not in names(tmp_path)
    (tmp_path / "5.unfinished").mkdir(exist_ok=True)
    (tmp_path / "5.unfinished" / "leftover").touch()
    saved_model.export(None, str(tmp_path), 5, keep=1)
    assert names(tmp_path) == ["5"] and "leftover" not in names(tmp_path / "5")
