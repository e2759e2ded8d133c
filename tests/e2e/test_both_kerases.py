"""What one Keras wrote, the other reads: the fixtures were made by tests/fixtures/make.py."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

FULL_DEPTH = True
FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
sys.path.insert(0, str(FIXTURES))
import make  # noqa: E402

from tf_simclr import compat  # noqa: E402
from tf_simclr.checkpoints import run_checkpoints, weights  # noqa: E402


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
