"""Each example runs, for a few steps of a small network."""

import json
import runpy

import matplotlib.pyplot as plt
import numpy as np
import pytest

from tf_simclr.models import resnet

SMALL = ["--steps=3", "--batch_size=8", "--width_multiplier=0.125"]


@pytest.fixture
def example(repo_root, monkeypatch):
    """Function: name of an example -> its global names, without running main."""
    # One block for each group of ResNet-18: it takes half as long to trace.
    monkeypatch.setitem(resnet.BLOCKS_PER_GROUP, 18, (1, 1, 1, 1))
    return lambda name: runpy.run_path(str(repo_root / "examples" / name))


@pytest.mark.long
def test_keras_fit(example):
    history = example("keras_fit.py")["main"](SMALL).history
    assert set(history) == {"contrast_loss", "contrast_acc", "contrast_entropy"}
    assert np.isfinite(history["contrast_loss"]).all()


@pytest.mark.long
def test_custom_loop(example, capsys):
    losses = example("custom_loop.py")["main"](SMALL)
    assert len(losses) == 3 and np.isfinite(losses).all()
    assert "step 3 of 3: loss " in capsys.readouterr().out


@pytest.fixture
def cells(repo_root) -> list[str]:
    """The code cells of the notebook."""
    notebook = json.loads((repo_root / "examples" / "features.ipynb").read_text())
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]


def test_notebook(cells):
    plt.switch_backend("Agg")
    names: dict = {}
    for cell in cells:
        exec(cell.replace("NUM_IMAGES = 500", "NUM_IMAGES = 12"), names)
    assert names["features"].shape == (12, 64)
    np.testing.assert_array_equal(names["nearest"][:, 0], range(5))
    plt.close("all")


def test_notebook_has_no_outputs(repo_root):
    notebook = json.loads((repo_root / "examples" / "features.ipynb").read_text())
    for cell in notebook["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None
