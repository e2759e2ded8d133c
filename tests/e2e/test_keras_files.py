"""--checkpoint=FILE.keras: a run starts from it, and predict answers as from the checkpoint."""

import csv
import os

import numpy as np
import pytest
import tensorflow as tf

import small
from tf_simclr import experiment
from tf_simclr.checkpoints import weights
from tf_simclr.checkpoints.formats.keras import keras_file
from tf_simclr.cli import flags
from tf_simclr.models import from_config

pytestmark = [pytest.mark.long, pytest.mark.shared]

FULL_DEPTH = True


@pytest.fixture(scope="module")
def trained(shapes_dir, tmp_path_factory) -> dict[str, str]:
    """A run of two steps, and Keras files of its weights: {name: path}."""
    folder = tmp_path_factory.mktemp("trained")
    run = str(folder / "run")
    small.run(*small.FINETUNE, f"--data_dir={shapes_dir}", f"--model_dir={run}", "--train_steps=2")
    config = small.parse(*small.FINETUNE)
    model = from_config.make_model(config, weights.open_weights(run).num_classes)
    weights.restore_weights(model, run)
    files = {name: str(folder / name) for name in ("x.keras", "simclr.keras", "x.weights.h5")}
    keras_file.write(model, files["x.keras"])
    model.save(files["simclr.keras"])
    model.save_weights(files["x.weights.h5"])
    return {"run": run} | files


def run(*arguments: str) -> dict:
    """Runs a command line that leaves the network to the checkpoint, as cli/main.py does."""
    parsed = flags.parse(["run.py", *arguments])
    config, recognized = experiment.adopt_checkpoint(parsed.config, fixed=parsed.explicit)
    assert recognized and "ResNet-18 0.0625x" in recognized
    return experiment.run(config)


def predict(checkpoint: str, folder) -> list[dict]:
    picture, table = str(folder / "x.png"), str(folder / f"{os.path.basename(checkpoint)}.csv")
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    tf.io.write_file(picture, tf.io.encode_png(image))
    run("--mode=predict", f"--checkpoint={checkpoint}", f"--images={picture}", f"--output={table}")
    with open(table) as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["x.keras", "simclr.keras", "x.weights.h5"])
def test_predict_answers_as_from_the_checkpoint(trained, tmp_path, name):
    (expected,), (actual,) = predict(trained["run"], tmp_path), predict(trained[name], tmp_path)
    # Only about.json, beside the checkpoint, names the classes.
    probability = float(expected["probability"])
    assert float(actual["probability"]) == pytest.approx(probability, rel=1e-4)


def test_a_run_starts_from_a_keras_file_without_model_flags(trained, shapes_dir, tmp_path):
    new_run = str(tmp_path / "run")
    run(
        "--train_mode=finetune",
        "--mode=train",
        "--image_size=32",
        "--train_batch_size=16",
        "--warmup_epochs=0",
        "--dataset=shapes",
        "--train_split=train[:64]",
        f"--data_dir={shapes_dir}",
        f"--model_dir={new_run}",
        f"--checkpoint={trained['x.keras']}",
        "--optimizer=momentum",
        "--learning_rate=1e-12",
        "--train_steps=1",
    )
    new, old = weights.read_weights(new_run), weights.read_weights(trained["run"])
    kernel = "base_model/block_group4/block2/conv2/kernel"
    np.testing.assert_allclose(new[kernel], old[kernel], rtol=1e-6, atol=1e-9)
