"""docs/exporting.md: its code runs, and prepares images as --mode=predict does."""

import csv
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import rest_server
from tf_simclr import compat
from tf_simclr.checkpoints.formats.tensorflow import saved_model
from tf_simclr.cli import flags
from tf_simclr.data.augment import views
from tf_simclr.data.sources import image_decoding
from tf_simclr.modes import predict

SIZE = 40
NUM_CLASSES = 7
# (file, height, width): both orientations, smaller and larger than SIZE, odd sizes.
FILES = (
    ("wide.jpg", 120, 251),
    ("tall.jpg", 333, 90),
    ("small.jpg", 21, 30),
    ("square.png", 40, 40),
    ("alpha.png", 75, 64),
    ("gray.png", 64, 99),
    ("palette.png", 50, 70),
    ("turned.jpg", 60, 200),
)


@pytest.fixture(scope="module")
def document(repo_root) -> str:
    return (repo_root / "docs" / "exporting.md").read_text()


@pytest.fixture(scope="module")
def prepare(document):
    """The function of that name in the document."""
    [code] = [b for b in re.findall(r"```python\n(.*?)```", document, re.S) if "def prepare" in b]
    names = {}
    exec(compile(code, "docs/exporting.md", "exec"), names)
    return names["prepare"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, height, width in FILES:
        channels = {"alpha.png": 4}.get(name, 3)
        coarse = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, channels), np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        image = image.convert({"gray.png": "L", "palette.png": "P"}.get(name, image.mode))
        exif = Image.Exif()
        exif[0x0112] = 6 if name == "turned.jpg" else 1
        image.save(folder / name, exif=exif)
    values = np.linspace(0, 4095, 50 * 50).reshape(50, 50).astype(np.uint16)
    Image.fromarray(values).save(folder / "12bit.png")
    Image.fromarray(np.rint(values / 4095 * 255).astype(np.uint8)).save(folder / "8bit.png")
    return folder


@pytest.mark.parametrize("image_size", [32, SIZE, 224])
def test_the_documents_code_makes_the_view_of_evaluation(pictures, prepare, image_size):
    preparation = views.evaluation_preparation(image_size)
    for name, _, _ in FILES:
        image = image_decoding.pixels((pictures / name).read_bytes())
        view = views.evaluation_view(tf.constant(image), image_size=image_size)
        found = prepare(pictures / name, image_size, preparation["crop_proportion"])
        np.testing.assert_allclose(found, view, atol=1e-5, err_msg=name)


def test_about_is_what_the_document_shows(document):
    [block] = re.findall(r"```json\n(.*?)```", document, re.S)
    about = json.loads(block)
    assert about["preparation"] == views.evaluation_preparation(about["image_size"])


@pytest.fixture(scope="module")
def exported(short_model, randomize, tmp_path_factory) -> str:
    """An encoder that lies where nothing but its own about.json tells of its run."""
    model = short_model(num_classes=NUM_CLASSES, image_size=SIZE)
    randomize(model)
    preparation = views.evaluation_preparation(SIZE, (0, 4095))
    about = {"image_size": SIZE, "class_names": None, "preparation": preparation}
    folder = tmp_path_factory.mktemp("copied")
    return saved_model.export(model, str(folder), 7, keep=1, about=about)


def predicted(exported, images, output, *arguments) -> dict[str, np.ndarray]:
    """{file: its embedding with --mode=predict}."""
    config = flags.parse(
        [
            "run.py",
            "--mode=predict",
            f"--checkpoint={exported}",
            f"--images={images}",
            f"--output={output}",
            "--eval_batch_size=4",
            "--cpu_replicas=1",
            *arguments,
        ]
    ).config
    predict.run(config)
    with open(f"{output}.files.csv", newline="") as file:
        names = [row["file"].rpartition("/")[2] for row in csv.DictReader(file)]
    return dict(zip(names, np.load(output), strict=True))


@pytest.fixture(scope="module")
def embeddings(pictures, exported, tmp_path_factory):
    return predicted(exported, pictures, tmp_path_factory.mktemp("output") / "all.npy")


def test_embeddings_agree_with_those_of_predict(pictures, prepare, exported, embeddings):
    with open(f"{exported}/assets/about.json") as file:
        preparation = json.load(file)["preparation"]
    size, crop_proportion = preparation["image_size"], preparation["crop_proportion"]
    images = np.stack([prepare(pictures / name, size, crop_proportion) for name, _, _ in FILES])
    endpoints = tf.saved_model.load(exported)(images, trainable=False)
    result = endpoints["final_avg_pool"].numpy()
    expected = np.stack([embeddings[name] for name, _, _ in FILES])
    assert not np.allclose(result[0], result[1], atol=0.1), "the encoder must tell images apart"
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-3)


def test_a_copied_saved_model_keeps_the_range_of_its_16_bit_images(
    pictures, exported, embeddings, tmp_path
):
    expected = embeddings["8bit.png"]
    np.testing.assert_allclose(embeddings["12bit.png"], expected, rtol=1e-3, atol=1e-3)
    [by_flag] = predicted(
        exported, pictures / "12bit.png", tmp_path / "flag.npy", "--image_range=0,65535"
    ).values()
    assert np.abs(by_flag - expected).max() > 0.01, "what is given as a flag wins"


def blocks(document: str, language: str, containing: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", document, re.S)
    return [block for block in found if containing in block]


@pytest.fixture
def run_block(document, exported, pictures, monkeypatch, tmp_path):
    """Function: (text in a block, names) -> the names after the document's block has run."""
    monkeypatch.chdir(tmp_path)
    os.makedirs("runs/demo/saved_model")
    os.symlink(exported, "runs/demo/saved_model/800")
    shutil.copy(pictures / "wide.jpg", "photo.jpg")
    shutil.copy(pictures / "alpha.png", "logo.png")

    def run(containing: str, names: dict, *replacement: str) -> dict:
        [block] = blocks(document, "python", containing)
        if replacement:
            assert replacement[0] in block
            block = block.replace(*replacement)
        exec(compile(block, "docs/exporting.md", "exec"), names)
        return names

    return run


def batch(number: int = 4) -> dict:
    rng = np.random.default_rng(1)
    images = rng.uniform(size=(number, SIZE, SIZE, 3)).astype(np.float32)
    return {"tf": tf, "images": images, "labels": np.arange(number) % 2, "num_classes": 2}


def test_every_python_block_is_run(document):
    ran = (
        "encoder.embed",
        "GradientTape",
        "TFSMLayer",
        "hub.KerasLayer",
        "image_bytes=tf.constant",
    )
    ran += ("urllib", "def prepare")
    found = blocks(document, "python", "")
    assert len(found) == len(ran)
    assert all(sum(text in block for text in ran) == 1 for block in found)


def test_the_blocks_that_load_and_fine_tune(run_block):
    names = run_block("encoder.embed", batch())
    embeddings = names["endpoints"]["final_avg_pool"]
    np.testing.assert_allclose(names["embeddings"], embeddings, rtol=1e-5, atol=1e-5)
    run_block("GradientTape", names)
    assert float(names["loss"]) == pytest.approx(np.log(2), rel=1e-3)
    changed = names["encoder"].embed(names["images"])
    assert np.abs(changed - embeddings).max() > 1e-3


def test_the_block_with_tfsm_layer(run_block):
    if not compat.KERAS_3:
        pytest.skip("keras.layers.TFSMLayer is in Keras 3 only")
    names = run_block("TFSMLayer", batch())
    assert names["model"].predict(names["images"], verbose=0).shape == (4, 2)


def test_the_block_with_hub(run_block, hub):
    replacement = ("import keras  #", "import tf_keras as keras  #") if compat.KERAS_3 else ()
    names = run_block("hub.KerasLayer", batch(), *replacement)
    assert names["model"].predict(names["images"], verbose=0).shape == (4, 2)


def test_the_block_that_calls_a_signature(run_block, embeddings):
    names = run_block("image_bytes=tf.constant", {"tf": tf})
    expected = np.stack([embeddings["wide.jpg"], embeddings["alpha.png"]])
    np.testing.assert_allclose(names["answers"]["embedding"], expected, rtol=1e-3, atol=1e-3)


def test_the_blocks_that_ask_a_server(run_block, document, exported, embeddings):
    expected = embeddings["wide.jpg"]
    [shell] = blocks(document, "bash", "curl")
    with rest_server.serve(tf.saved_model.load(exported).signatures) as address:
        names = run_block("urllib", {}, "http://localhost:8501", address)
        if shutil.which("curl"):
            command = shell.replace("http://localhost:8501", address)
            output = subprocess.run(["bash", "-c", command], check=True, capture_output=True).stdout
            assert json.loads(output)["predictions"] == [names["prediction"]]
    np.testing.assert_allclose(names["prediction"]["embedding"], expected, rtol=1e-3, atol=1e-3)
    names_of_classes = {str(index) for index in range(NUM_CLASSES)}
    assert set(names["prediction"]["classes"]) <= names_of_classes
