"""Writes a model in each format of tools/export.py, and loads it again as a user would.

docs/formats.md compares the formats.
"""

import os
import runpy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_simclr import files
from tf_simclr.checkpoints import loading_code
from tf_simclr.checkpoints.formats import optional
from tf_simclr.checkpoints.formats.keras import keras_writer
from tf_simclr.checkpoints.formats.pytorch import pytorch_export
from tf_simclr.checkpoints.formats.runtimes import onnx_file, sessions, tflite_file
from tf_simclr.checkpoints.formats.tensorflow import saved_model
from tf_simclr.models.simclr import SimCLR

EMBEDDING = "final_avg_pool"
QUANTIZATIONS = tuple(tflite_file.BYTES_PER_VALUE)
Embed = Callable[[np.ndarray], np.ndarray]


class Export(NamedTuple):
    """What to write.

    Attributes:
      model: the model, in float32.
      about: the content of about.json.
      embedding_only: leave the heads out of a SavedModel, so that it returns one tensor.
      quantize: type of the weights in TFLite, one of QUANTIZATIONS.
      images: for int8, images that show the range of the activations, float32 (n, s, s, 3).
    """

    model: SimCLR
    about: Mapping[str, Any]
    embedding_only: bool = False
    quantize: str = "float32"
    images: np.ndarray | None = None


class Format(NamedTuple):
    """A format.

    Attributes:
      file: the path below the export's directory that --checkpoint takes; "" for the directory.
      write: writes an Export into an empty directory.
      load: loads an export's directory as a user would. Returns a function from images, float32
        (n, s, s, 3) in [0, 1], to embeddings (n, width).
      loading: Markdown with code that loads the export.
    """

    file: str
    write: Callable[[Export, str], None]
    load: Callable[[str], Embed]
    loading: str


def _write_saved_model(export: Export, directory: str) -> None:
    """Writes the SavedModel into the directory itself."""
    part = os.path.join(directory, "part")
    about = dict(export.about)
    exportable = saved_model.exportable(export.model, about, embedding_only=export.embedding_only)
    path = saved_model.write(exportable, part, 0, keep=1, about=about)
    for name in tf.io.gfile.listdir(path):
        name = name.rstrip("/")
        tf.io.gfile.rename(os.path.join(path, name), os.path.join(directory, name))
    files.remove(part)


def _load_saved_model(directory: str) -> Embed:
    loaded = tf.saved_model.load(directory)
    return lambda images: loaded.embed(tf.constant(images)).numpy()


def _write_keras(export: Export, directory: str) -> None:
    keras_writer.write(export.model, os.path.join(directory, "model.keras"))


def _load_keras(directory: str) -> Embed:
    loaded = keras.saving.load_model(os.path.join(directory, "model.keras"))
    return lambda images: np.asarray(loaded(images, training=False)[EMBEDDING])


def _write_torch(export: Export, directory: str) -> None:
    pytorch_export.write(export.model, directory)


def _load_torch(directory: str) -> Embed:
    torch = optional.require("torch", reason="--check of a PyTorch export")
    # This program has written it a moment ago. An import would leave bytecode in the export.
    program = runpy.run_path(os.path.join(directory, "model.py"))
    network = program["load"](os.path.join(directory, "model.safetensors"))

    def embed(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            outputs = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
        return outputs[EMBEDDING].numpy()

    return embed


def _write_onnx(export: Export, directory: str) -> None:
    onnx_file.write(export.model, os.path.join(directory, "model.onnx"), about=dict(export.about))


def _load_onnx(directory: str) -> Embed:
    with open(os.path.join(directory, "model.onnx"), "rb") as file:
        session = sessions.onnx_session(file.read())
    return lambda images: session.run(images)[EMBEDDING]


def _write_tflite(export: Export, directory: str) -> None:
    tflite_file.write(
        export.model,
        os.path.join(directory, "model.tflite"),
        image_size=export.about["image_size"],
        quantize=export.quantize,
        images=export.images,
        about=dict(export.about),
    )


def _load_tflite(directory: str) -> Embed:
    with open(os.path.join(directory, "model.tflite"), "rb") as file:
        session = sessions.tflite_session(file.read())
    return lambda images: session.run(images)[EMBEDDING]


FORMATS = {
    "saved_model": Format("", _write_saved_model, _load_saved_model, loading_code.SAVED_MODEL),
    "keras": Format("model.keras", _write_keras, _load_keras, loading_code.KERAS),
    "torch": Format("model.safetensors", _write_torch, _load_torch, loading_code.TORCH),
    "onnx": Format("model.onnx", _write_onnx, _load_onnx, loading_code.ONNX),
    "tflite": Format("model.tflite", _write_tflite, _load_tflite, loading_code.TFLITE),
}
