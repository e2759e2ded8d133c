"""Finds and opens files that a runtime runs as they are. Only mode=predict uses them."""

import os

from tf_simclr import files
from tf_simclr.checkpoints.formats.runtimes import onnx_file, tflite_file
from tf_simclr.checkpoints.formats.runtimes.runner import Runner

# Each has NAME, matches(path) and load(path).
FORMATS = (onnx_file, tflite_file)


def name_of(path: str) -> str | None:
    """Returns what a file is, such as "an ONNX model"; None if no runtime runs it."""
    if files.is_url(path) or not os.path.isfile(path):
        return None
    return next((format.NAME for format in FORMATS if format.matches(path)), None)


def load(path: str) -> Runner:
    """Opens a file for inference.

    Raises:
      ConfigError: a package is missing, or the file cannot be used.
    """
    return next(format for format in FORMATS if format.matches(path)).load(path)
