"""Files that are no model, or half of one: one line, before anything runs or is written."""

import io
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import export
import small
from tf_simclr.checkpoints import run_checkpoints, weights_file
from tf_simclr.cli import flags, main
from tf_simclr.models.from_config import make_model
from tf_simclr.optim import policy

TINY = small.parse(*small.RUN, "--mode=train", "--model_dir=x")
MARKER = "executed"


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """One checkpoint, and its exports in every format whose packages are installed."""
    folder = tmp_path_factory.mktemp("good")
    model = make_model(TINY, 10)
    optimizer = policy.make_optimizer(model, "momentum", 0.1, momentum=0.9, weight_decay=0.0)
    run_checkpoints.Checkpointer(model, optimizer, str(folder / "run"), max_to_keep=1).save()
    for name in ("saved_model", "keras", "torch", "onnx", "tflite"):
        try:
            export.main(
                [f"--checkpoint={folder}/run", f"--format={name}", f"--output={folder}/{name}"]
            )
        except SystemExit as missing:  # an optional package
            assert "pip install" in str(missing.code)
    return folder


def half(path: Path) -> bytes:
    if not path.exists():
        pytest.skip(f"{path.name} needs an optional package")
    return path.read_bytes()[: path.stat().st_size // 2]


def zipped(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "."), data)
    return content.getvalue()


def picture() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "PNG")
    return content.getvalue()


def array() -> bytes:
    content = io.BytesIO()
    np.savez(content, a=np.ones(3))
    return content.getvalue()


# {kind: (name of the file, function from `good` and the test's folder to its content)}
FILES = {
    "empty Keras file": ("a.keras", lambda *_: b""),
    "text as a Keras file": ("a.keras", lambda *_: b"no zip"),
    "half of a Keras file": ("a.keras", lambda good, _: half(good / "keras" / "model.keras")),
    "ZIP without a model": ("a.keras", lambda *_: zipped(readme__txt=b"hi")),
    "ZIP of broken JSON": ("a.keras", lambda *_: zipped(config__json=b"{", model__weights__h5=b"")),
    "empty HDF5 file": ("a.weights.h5", lambda *_: b""),
    "text as an HDF5 file": ("a.weights.h5", lambda *_: b"no HDF5" * 99),
    "empty safetensors file": ("a.safetensors", lambda *_: b""),
    "safetensors with a huge header": ("a.safetensors", lambda *_: b"\xff" * 8 + b"{}"),
    "half of a safetensors file": (
        "a.safetensors",
        lambda good, _: half(good / "torch" / "model.safetensors"),
    ),
    "pickle that runs code": ("a.pth", lambda _, folder: pickle.dumps(Evil(folder / MARKER))),
    "text as a PyTorch file": ("a.pth", lambda *_: b"no pickle"),
    "ZIP as a PyTorch file": ("a.pt", lambda *_: zipped(data__pkl=b"")),
    "empty ONNX file": ("a.onnx", lambda *_: b""),
    "random ONNX file": ("a.onnx", lambda *_: np.random.default_rng(0).bytes(999)),
    "half of an ONNX file": ("a.onnx", lambda good, _: half(good / "onnx" / "model.onnx")),
    "empty TFLite file": ("a.tflite", lambda *_: b""),
    "random TFLite file": ("a.tflite", lambda *_: b"\0\0\0\0TFL3" + bytes(range(256))),
    "half of a TFLite file": ("a.tflite", lambda good, _: half(good / "tflite" / "model.tflite")),
    "index of a checkpoint alone": ("ckpt-3.index", lambda *_: b"text"),
    "picture": ("a.png", lambda *_: picture()),
    "array": ("a.npz", lambda *_: array()),
    "JSON": ("a.json", lambda *_: b"{}"),
}


def empty_directory(good: Path, path: Path):
    path.mkdir()


def checkpoint_without_data(good: Path, path: Path):
    shutil.copytree(good / "run", path)
    for file in path.glob("*.data-*"):
        file.unlink()


def checkpoint_with_half_of_its_data(good: Path, path: Path):
    shutil.copytree(good / "run", path)
    for file in path.glob("*.data-*"):
        os.truncate(file, file.stat().st_size // 2)


def saved_model_without_content(good: Path, path: Path):
    path.mkdir()
    (path / "saved_model.pb").touch()


def saved_model_with_half_of_its_data(good: Path, path: Path):
    shutil.copytree(good / "saved_model", path)
    for file in (path / "variables").glob("*.data-*"):
        os.truncate(file, file.stat().st_size // 2)


def checkpoint_of_another_program(good: Path, path: Path):
    path.mkdir()
    tf.train.Checkpoint(weights=tf.Variable(tf.ones(3))).save(str(path / "ckpt"))


DIRECTORIES = (
    empty_directory,
    checkpoint_without_data,
    checkpoint_with_half_of_its_data,
    saved_model_without_content,
    saved_model_with_half_of_its_data,
    checkpoint_of_another_program,
)


def refused(*arguments: str) -> str:
    """The one line with which the command ends."""
    with pytest.raises(SystemExit) as stopped:
        main.run(flags.parse(["run.py", *arguments]))
    message = stopped.value.code
    assert isinstance(message, str) and "\n" not in message and len(message) < 1000
    return message


def check(path: Path, folder: Path):
    images = folder / "images"
    images.mkdir()
    (images / "x.png").write_bytes(picture())
    output = folder / "out.csv"
    predicts = ("--mode=predict", f"--images={images}", f"--output={output}", *small.RUN)
    trains = ("--mode=train", "--train_mode=finetune", "--dataset=shapes", "--train_steps=1")
    model_dir = folder / "new"
    for words in (predicts, (*trains, *small.RUN, f"--model_dir={model_dir}")):
        message = refused(f"--checkpoint={path}", *words)
        assert str(path).removesuffix(".index") in message
    assert not output.exists() and not model_dir.exists() and not (folder / MARKER).exists()


@pytest.mark.long
@pytest.mark.shared
@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_model(good, tmp_path, kind):
    name, content = FILES[kind]
    path = tmp_path / name
    path.write_bytes(content(good, tmp_path))
    check(path, tmp_path)


@pytest.mark.long
@pytest.mark.shared
@pytest.mark.parametrize("make", DIRECTORIES, ids=lambda make: make.__name__)
def test_a_directory_that_is_no_model(good, tmp_path, make):
    make(good, tmp_path / "made")
    check(tmp_path / "made", tmp_path)


@pytest.mark.long
@pytest.mark.shared
def test_the_good_files_are_good(good):
    """Otherwise the halves above would be refused for another reason."""
    for path in ("run", "saved_model", "keras"):
        assert weights_file.open_weights(str(good / path)).num_classes == 10
