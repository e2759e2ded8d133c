"""safetensors files need no torch: a file of PyTorch from tests/fixtures gives torch's outputs."""

import sys
from pathlib import Path

import numpy as np
import pytest
from tests.fixtures.make_pytorch import HERE, IMAGES

from tf_simclr.checkpoints import recognition, weights, weights_file
from tf_simclr.checkpoints.formats.pytorch import pytorch_export, pytorch_file
from tf_simclr.config import Config
from tf_simclr.errors import ConfigError
from tf_simclr.models.from_config import make_model

FILE = str(HERE / "pytorch" / "resnet18.safetensors")


@pytest.fixture(autouse=True)
def format_is_known(monkeypatch):
    monkeypatch.setattr(weights_file, "FILE_FORMATS", (pytorch_file,))
    monkeypatch.setitem(sys.modules, "torch", None)


def test_outputs_are_those_of_torch(tmp_path):
    """Also after an export, which needs no torch either."""
    pytest.importorskip("safetensors", reason="the package is optional")
    stored = weights_file.open_weights(FILE)
    config = recognition.fit(Config().replace(mode="predict", seed=1), stored, path=FILE)
    assert config.model.width_multiplier == 0.0625
    model = make_model(config, stored.num_classes)
    report = weights.restore_weights(model, FILE)
    assert not report.missing and not report.skipped
    endpoints = model(IMAGES, training=False)
    with np.load(Path(FILE).with_name("expected.npz")) as expected:
        assert set(expected) == {"final_avg_pool", "logits_sup", "proj_head_output"}
        for name, values in expected.items():
            ours = endpoints[name].numpy()
            assert np.abs(ours - values).max() < 1e-5 * np.abs(values).max(), name
    pytorch_export.write(model, str(tmp_path))
    paths = sorted(tmp_path.iterdir())
    assert [path.name for path in paths] == ["model.py", "model.safetensors"]
    assert len({path.stat().st_mode for path in paths}) == 1


def test_safetensors_that_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ConfigError, match=r"pip install '.\[torch\]'"):
        weights_file.open_weights(FILE)
    with pytest.raises(ConfigError, match=r"pip install '.\[torch\]'"):
        pytorch_export.write(make_small_model(), str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def make_small_model():
    config = Config().replace(resnet_depth=18, width_multiplier=0.0625, image_size=32, seed=1)
    return make_model(config, None)
