"""Writes and opens TFLite files: inference for phones and other small devices."""

import io
import json
import os
import zipfile
from typing import Any

import numpy as np
import tensorflow as tf

from tf_simclr.checkpoints import about_file
from tf_simclr.checkpoints.formats.runtimes import inference, runner, sessions
from tf_simclr.checkpoints.formats.runtimes.runner import Runner
from tf_simclr.checkpoints.formats.tensorflow.object_graph import variable_tree
from tf_simclr.errors import ConfigError
from tf_simclr.models.simclr import SimCLR

KIND, NAME, EXTENSION = "tflite", "a TFLite model", ".tflite"
BYTES_PER_VALUE = {"float32": 4, "float16": 2, "int8": 1}  # bytes per value
_IDENTIFIER = b"TFL3"  # at byte 4
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # the same model gives the same file


def matches(path: str) -> bool:
    """Returns whether a path is a TFLite file, by its extension or its first bytes."""
    if path.endswith(EXTENSION):
        return True
    try:
        with open(path, "rb") as file:
            return file.read(8)[4:] == _IDENTIFIER
    except OSError:
        return False


def write(
    model: SimCLR,
    path: str,
    *,
    image_size: int,
    quantize: str = "float32",
    images: np.ndarray | None = None,
    about: dict[str, Any] | None = None,
) -> None:
    """Writes a TFLite file.

    Its signature `serving_default` takes `images`, float32 (n, s, s, 3) in [0, 1] for any n, and
    returns final_avg_pool, proj_head_output and logits_sup, if the model has them. With int8, all
    operations compute in 8 bits, and the input and outputs are still float32: programs use all
    kinds alike, embeddings are compared as floats anyway, and [0, 1] in 255 steps loses nothing of
    an image of 8 bits.

    Args:
      model: the model, in float32.
      path: path of the file.
      image_size: side s of the images, in pixels.
      quantize: type of the weights, a key of BYTES_PER_VALUE. int8 is also the type of all
        activations.
      images: representative images for int8, float32 (m, s, s, 3) in [0, 1], prepared as for
        evaluation. Their activations choose the ranges of the 8 bits; 100 images are usual.
      about: content of about.json (`about_file.content`). As with other metadata of TFLite, it is
        in a ZIP archive at the end of the file: `unzip model.tflite` extracts it.

    Raises:
      ConfigError: quantize is unknown, int8 lacks images, or the weights take more than 2 GiB.
    """
    if quantize not in BYTES_PER_VALUE:
        raise ConfigError(f"quantize must be one of {', '.join(BYTES_PER_VALUE)}, got {quantize!r}")
    inference.check_size(model, path, bytes_per_value=BYTES_PER_VALUE[quantize])
    function, _ = inference.function(model, image_size)
    # The converter replaces variables that it finds below this object by constants. It does not
    # find those of a Keras 3 model.
    root = tf.train.Checkpoint(model=variable_tree(model.variables_by_path()))
    concrete = function.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], root)
    if quantize != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize == "int8":
        representative = _check_images(images, image_size)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([image[None]] for image in representative)
    content = converter.convert()
    inference.write_bytes(path, content if about is None else _with_about(content, about))


def _check_images(images: np.ndarray | None, image_size: int) -> np.ndarray:
    """Checks the representative images.

    Raises:
      ConfigError: there are none, or they have another shape.
    """
    shape = (image_size, image_size, 3)
    if images is None or not len(images) or images.shape[1:] != shape:
        got = None if images is None else images.shape
        raise ConfigError(
            "quantize=int8 needs representative images, whose activations choose the ranges of its "
            f"8 bits: float32 (m, {image_size}, {image_size}, 3), got {got}"
        )
    return images.astype(np.float32)


def _with_about(content: bytes, about: dict[str, Any]) -> bytes:
    """Appends a ZIP archive with about.json."""
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(zipfile.ZipInfo(about_file.ABOUT, _FIXED_TIME), json.dumps(about))
    return file.getvalue()


def load(path: str) -> Runner:
    """Opens a TFLite file for inference. The file is untrusted.

    Raises:
      ConfigError: LiteRT is missing, or the file is damaged, too large, or has other inputs and
        outputs than `write` gives.
    """
    sessions.litert(path)
    with runner.errors_in_one_line(path, NAME):
        content = runner.read(path)
        about = _read_about(content)
        return runner.open_content(KIND, content, about, directory=os.path.dirname(path))


def _read_about(content: bytes) -> about_file.About:
    """Reads the metadata of a file; an empty About if there is none.

    Raises:
      ValueError, OSError, RuntimeError, NotImplementedError or BadZipFile: it is damaged.
    """
    file = io.BytesIO(content)
    if not zipfile.is_zipfile(file):
        return about_file.About()
    with zipfile.ZipFile(file) as archive:
        if about_file.ABOUT not in archive.namelist():
            return about_file.About()
        with archive.open(about_file.ABOUT) as entry:
            text = entry.read(about_file.MAX_BYTES + 1)
    if len(text) > about_file.MAX_BYTES:
        raise ValueError(f"its metadata has more than {about_file.MAX_BYTES} bytes")
    return about_file.parse(text)
