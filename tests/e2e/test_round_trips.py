"""Weights go from the official code to other libraries and back, by the commands."""

import os
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from tests import tf1_checkpoints

import convert_checkpoint
import export
import small
from tf_simclr import compat
from tf_simclr.checkpoints import weights
from tf_simclr.cli import flags, main

pytestmark = [pytest.mark.long, pytest.mark.shared]
FULL_DEPTH = True

# As the released ones are trained: at 224 pixels, with all heads.
NETWORK = dict(depth=18, width=0.0625)
IMAGES = np.random.default_rng(0).uniform(size=(4, 64, 64, 3)).astype(np.float32)


@pytest.fixture
def official(tiny_model, randomize, tmp_path):
    """A TF1 checkpoint, and the model whose weights it holds."""
    model = tiny_model(resnet_depth=18, width_multiplier=0.0625, image_size=224, num_classes=10)
    randomize(model)
    return tf1_checkpoints.write_model(tmp_path / "model.ckpt-250", model, **NETWORK), model


def embeddings(model, images) -> np.ndarray:
    return np.asarray(model(images, training=False)["final_avg_pool"])


def command(*arguments: str):
    main.run(flags.parse(["run.py", *map(str, arguments)]))


def test_tf1_to_ours_to_a_saved_model_to_a_step_of_hub_keras_layer(official, tmp_path):
    hub = pytest.importorskip("tensorflow_hub", reason="TF Hub")
    hub_keras = keras
    if compat.KERAS_3:
        hub_keras = pytest.importorskip("tf_keras", reason="hub.KerasLayer needs it on Keras 3")
    source, model = official
    ours, exported = str(tmp_path / "ours"), str(tmp_path / "exported")
    convert_checkpoint.main([f"--source={source}", f"--output={ours}"])
    export.main(
        [f"--checkpoint={ours}", "--format=saved_model", "--embedding_only", f"--output={exported}"]
    )
    layer = hub.KerasLayer(exported, trainable=True)
    expected = embeddings(model, IMAGES)
    np.testing.assert_allclose(layer(IMAGES), expected, rtol=1e-5, atol=1e-5 * expected.max())
    classifier = hub_keras.Sequential(
        [hub_keras.Input((64, 64, 3)), layer, hub_keras.layers.Dense(2)]
    )
    loss = hub_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(hub_keras.optimizers.SGD(0.1), loss)
    before = [np.array(variable) for variable in layer.trainable_variables]
    classifier.fit(IMAGES, np.array([0, 1, 0, 1]), epochs=1, verbose=0)
    for variable, old in zip(layer.trainable_variables, before, strict=True):
        assert np.abs(variable.numpy() - old).max() > 0


def test_ours_to_pytorch_to_ours(official, tmp_path):
    pytest.importorskip("safetensors", reason="the format of PyTorch exports")
    source, _ = official
    export.main([f"--checkpoint={source}", "--format=torch", f"--output={tmp_path}/torch"])
    convert_checkpoint.main([f"--source={tmp_path}/torch", f"--output={tmp_path}/ours"])
    before, again = weights.read_weights(source), weights.read_weights(f"{tmp_path}/ours")
    assert set(again) == set(before)
    for path, value in before.items():
        np.testing.assert_array_equal(again[path], value)


@pytest.mark.parametrize("format", ["tf1", "saved_model", "keras", "torch"])
def test_fine_tuning_starts_from_every_format_with_default_flags(
    official, shapes_dir, tmp_path, format, capsys
):
    """At 224 pixels, without a flag of the network. Prediction then uses the fine-tuned run."""
    checkpoint, _ = official
    if format != "tf1":
        if format == "torch":
            pytest.importorskip("safetensors", reason="the format of PyTorch exports")
        export.main([f"--checkpoint={checkpoint}", f"--format={format}", f"--output={tmp_path}/x"])
        checkpoint = f"{tmp_path}/x"
    capsys.readouterr()
    command(
        "--mode=train",
        "--train_mode=finetune",
        f"--checkpoint={checkpoint}",
        "--dataset=shapes",
        f"--data_dir={shapes_dir}",
        "--train_split=train[:8]",
        "--train_batch_size=8",
        "--train_steps=1",
        "--warmup_epochs=0",
        f"--model_dir={tmp_path}/run",
    )
    said = capsys.readouterr().err
    assert "ResNet-18 0.0625x, stem for images above 32 pixels" in said
    assert "10 classes" in said
    # Everything is restored; nothing is left out or missing.
    assert len(re.findall(r"(?:base_model|head_\w+) +\d+ +- +-", said)) == 3
    assert os.listdir(tmp_path / "run" / "saved_model") == ["1"]
    loaded = tf.saved_model.load(str(tmp_path / "run" / "saved_model" / "1"))
    assert loaded(IMAGES)["logits_sup"].shape == (4, 10)
    assert small.parse(f"--model_dir={tmp_path}/run").data.image_size == 224
