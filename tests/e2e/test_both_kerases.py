"""What one Keras wrote, the other reads: the fixtures were made by tests/fixtures/make.py."""

import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

FULL_DEPTH = True
FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
sys.path.insert(0, str(FIXTURES))
import make  # noqa: E402

from tf_simclr import compat  # noqa: E402
from tf_simclr.checkpoints import run_checkpoints, weights  # noqa: E402
from tf_simclr.checkpoints.formats.keras import keras_archive, keras_file  # noqa: E402


@pytest.fixture(params=["keras2", "keras3"])
def written(request):
    folder = FIXTURES / request.param
    return folder, dict(np.load(folder / "expected.npz"))


def assert_endpoints(found, expected, prefix=""):
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[prefix + name], rtol=1e-4, atol=1e-5)


def test_a_run_goes_on_from_either_keras(written, tmp_path):
    folder, expected = written
    model, optimizer = make.make_parts()
    checkpointer = run_checkpoints.Checkpointer(model, optimizer, str(folder), max_to_keep=1)
    checkpointer.check_latest()
    checkpointer.restore(str(folder / "ckpt-2"))
    assert checkpointer.step == 2
    assert_endpoints(make.endpoints(model), expected)
    slots = compat.optimizer_slots(optimizer)["momentum"]
    norms = [float(tf.norm(tf.convert_to_tensor(slot))) for slot in slots]
    np.testing.assert_allclose(norms, expected["slot_norms"], rtol=1e-6)
    make.step(model, optimizer)
    assert_endpoints(make.endpoints(model), expected, "after_step3/")


@pytest.mark.parametrize("source", ["ckpt-2", "saved_model/2", "."])
def test_weights_come_from_either_keras(written, source):
    folder, expected = written
    model, _ = make.make_parts()
    report = weights.restore_weights(model, str(folder / source))
    assert not report.missing and not report.skipped
    assert_endpoints(make.endpoints(model), expected)


def test_a_saved_model_answers_under_either_keras(written):
    folder, expected = written
    loaded = tf.saved_model.load(str(folder / "saved_model" / "2"))
    found = loaded(tf.constant(make.IMAGES), trainable=False)
    assert_endpoints({k: v for k, v in found.items() if v.shape.rank == 2}, expected)


@pytest.fixture
def keras_files(written, tmp_path):
    """A folder of the Keras files, and {endpoint: its values}."""
    with zipfile.ZipFile(written[0] / "keras_files.zip") as archive:
        archive.extractall(tmp_path)
    return tmp_path, dict(np.load(tmp_path / make.EXPECTED))


@pytest.mark.parametrize("name", [name for name in make.KERAS_FILES if name != "trained.keras"])
def test_keras_files_come_from_either_keras(keras_files, name):
    folder, expected = keras_files
    model = make.make_narrow_model()
    report = weights.restore_weights(model, str(folder / name))
    assert not report.missing and not report.skipped
    assert_endpoints(make.endpoints(model), expected)


def test_what_either_keras_has_trained_comes_back(keras_files):
    folder, expected = keras_files
    model = make.make_narrow_model()
    report = weights.restore_weights(model, str(folder / "trained.keras"))
    # The classifier has no projection head.
    assert {name.split("/")[0] for name in report.missing} == {"head_contrastive"}
    assert_endpoints({"trained": make.endpoints(model)["logits_sup"]}, expected)


def test_an_exported_keras_file_answers_and_trains_under_either_keras(keras_files):
    folder, expected = keras_files
    path = str(folder / "exported.keras")
    found = keras.saving.load_model(path)(make.IMAGES)
    vectors = {name: value for name, value in found.items() if len(value.shape) == 2}
    assert_endpoints(vectors, {name: expected[name] for name in vectors})
    # A step of one Keras is a step of the other. Batch normalization amplifies the rounding.
    trained = make.fit_one_step(path).predict(make.IMAGES, verbose=0)
    np.testing.assert_allclose(trained, expected["trained"], rtol=0.02, atol=0.02)
    assert np.abs(trained - expected["logits_sup"]).max() > 0.1


def test_either_keras_exports_the_same_file(keras_files, tmp_path):
    folder, _ = keras_files
    model = make.make_narrow_model()
    weights.restore_weights(model, str(folder / "simclr.weights.h5"))
    keras_file.write(model, str(tmp_path / "again.keras"))
    config, root = keras_archive.read(str(folder / "exported.keras"))
    new_config, new_root = keras_archive.read(str(tmp_path / "again.keras"))
    assert new_config == config
    assert arrays_of(new_root) == arrays_of(root)


def arrays_of(root) -> dict[str, bytes]:
    found = {}

    def visit(name, item):
        found[name] = item[()].tobytes() if isinstance(item, h5py.Dataset) else b""

    root.visititems(visit)
    return found
