"""--rescale_v1: smaller kernels, the same outputs."""

import numpy as np
import pytest
from tests import tf1_checkpoints

import convert_checkpoint
from tf_simclr.checkpoints import rescale, weights
from tf_simclr.checkpoints.formats.stored import Stored
from tf_simclr.errors import ConfigError

IMAGES = np.random.default_rng(0).uniform(size=(4, 64, 64, 3)).astype(np.float32)
KIND = "a TF1 checkpoint of the official code"


def stored_of(values, kind=KIND) -> Stored:
    return Stored(kind, {path: value.shape for path, value in values.items()}, values.__getitem__)


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model(resnet_depth=50, image_size=64, proj_head_mode="none", num_classes=10)


@pytest.fixture(scope="module")
def v1(model, randomize, values):
    """Weights of SimCLRv1's network, and large ones as SimCLRv1's are."""
    randomize(model)
    scales = {"kernel": 17, "moving_mean": 17, "moving_variance": 17**2, "gamma": 0.5}
    result = values(model)
    for path, value in result.items():
        if path.startswith("base_model/"):
            value *= np.float32(scales.get(path.rpartition("/")[2], 1))
    return result


def outputs(model, stored, training=False) -> dict[str, np.ndarray]:
    weights.restore(model, stored, "a file")
    return {name: v.numpy() for name, v in model(IMAGES, training=training).items()}


def largest_difference(result, expected) -> float:
    return max(
        np.abs(result[name] - value).max() / np.abs(value).max()
        for name, value in expected.items()
        if name != "initial_conv"  # it precedes the first normalization
    )


@pytest.mark.parametrize("variance", [None, 1e-3, 1e-8])
def test_outputs_stay_the_same(model, v1, variance):
    """Also of channels whose variance is small or much smaller than epsilon."""
    values = dict(v1)
    for path in v1:
        if variance and path.endswith("conv2/bn/moving_variance"):
            values[path] = v1[path].copy()
            values[path][::2] = variance
            mean = path.replace("variance", "mean")
            values[mean] = np.zeros_like(v1[mean])
            gamma = path.replace("moving_variance", "gamma")
            # Else the features would grow with each block.
            values[gamma] = v1[gamma].copy()
            values[gamma][::2] *= np.float32(np.sqrt(variance + 1e-5) / 17)
    before = outputs(model, stored_of(values))
    rescaled = rescale.rescale_v1(stored_of(values), path="x")
    after = outputs(model, rescaled)
    assert largest_difference(after, before) < 1e-5
    difference = after["initial_conv"] * 16.8 - before["initial_conv"]
    assert np.abs(difference).max() < 1e-5 * np.abs(before["initial_conv"]).max()


def test_training_normalizes_alike(model, v1):
    """By the batch's statistics; only epsilon weighs more."""
    before = outputs(model, stored_of(v1), training=True)
    after = outputs(model, rescale.rescale_v1(stored_of(v1), path="x"), training=True)
    assert 0 < largest_difference(after, before) < 1e-3


def test_what_changes(v1):
    rescaled = rescale.rescale_v1(stored_of(v1), path="x")
    assert rescaled.shapes == stored_of(v1).shapes
    assert "divided by 16.8" in rescaled.notes[-1] and "initial_conv" in rescaled.notes[-1]
    ratios = {path: np.mean(value / rescaled.read(path)) for path, value in v1.items()}
    for path, ratio in ratios.items():
        kind = path.rpartition("/")[2]
        in_encoder = path.startswith("base_model/")
        expected = {"kernel": 16.8, "moving_mean": 16.8, "moving_variance": 16.8**2}.get(kind, 1)
        assert ratio == pytest.approx(expected if in_encoder else 1, rel=1e-3), path
        assert rescaled.read(path).dtype == np.float32


def test_an_expansion_without_normalization_would_stay(v1):
    """No such layer is in SimCLRv1's networks, but a factor there would change the outputs."""
    alone = {"base_model/block_group1/block1/extra/kernel": np.ones((1, 1, 2, 2), np.float32)}
    rescaled = rescale.rescale_v1(stored_of(v1 | alone), path="x")
    for path, value in alone.items():
        np.testing.assert_array_equal(rescaled.read(path), value)


@pytest.mark.parametrize(
    "add, message",
    [
        ("base_model/block_group1/block4/conv3/kernel", "is not a ResNet-50"),
        ("base_model/block_group1/block1/sk/conv/kernel", "has selective kernels"),
        ("base_model/block_group1/block1/se/reduce/kernel", "has squeeze-and-excitation"),
        ("head_contrastive/layer1/dense/kernel", "has a projection head"),
    ],
)
def test_other_networks_are_refused(v1, add, message):
    stored = stored_of(v1 | {add: np.zeros((1, 1, 1, 1))})
    with pytest.raises(ConfigError, match=f"'x' {message}: leave --rescale_v1 out") as error:
        rescale.rescale_v1(stored, path="x")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "kind", ["a SavedModel of this package", "a Keras file of a functional model"]
)
def test_weights_are_not_rescaled_twice(v1, kind):
    with pytest.raises(ConfigError, match=f"'x' is {kind}: give the released file itself"):
        rescale.rescale_v1(stored_of(v1, kind), path="x")


def test_the_converter_rescales(model, v1, tmp_path, capsys, monkeypatch):
    before = outputs(model, stored_of(v1))
    source = tf1_checkpoints.write_model(tmp_path / "model.ckpt-1", model, depth=50, width=0.0625)
    monkeypatch.setattr(convert_checkpoint.saved_model, "export", lambda *_, **__: None)
    monkeypatch.setattr(convert_checkpoint.model_card, "write", lambda *_: None)
    convert_checkpoint.main([f"--source={source}", f"--output={tmp_path}/new", "--rescale_v1"])
    assert "Note: The encoder's kernels were divided by 16.8" in capsys.readouterr().out
    converted = weights.open_weights(str(tmp_path / "new"))
    stem = "base_model/stem/conv/kernel"
    np.testing.assert_allclose(converted.read(stem) * 16.8, v1[stem], rtol=1e-5)
    assert largest_difference(outputs(model, converted), before) < 1e-5
    with pytest.raises(SystemExit, match="is a checkpoint of this package: give the released file"):
        convert_checkpoint.main(
            [f"--source={tmp_path}/new", f"--output={tmp_path}/again", "--rescale_v1"]
        )
    assert not (tmp_path / "again").exists()
