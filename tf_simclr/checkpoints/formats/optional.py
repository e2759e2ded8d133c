"""Imports packages that only some formats need, and names a missing one with its install line."""

import importlib
from typing import Any

from tf_simclr.errors import ConfigError

# Import names, and the extras in setup.cfg that install versions that fit TensorFlow.
EXTRAS = {
    "torch": "torch",
    "safetensors": "torch",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "tf2onnx": "onnx",
    "ai_edge_litert": "tflite",
}


def require(module: str, *, reason: str) -> Any:
    """Imports an optional module, such as "safetensors.numpy".

    Args:
      module: the full name of the module.
      reason: what needs it, the start of a sentence: "reading 'model.safetensors'".

    Raises:
      ConfigError: the package is not installed, or it cannot be imported.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{reason} needs the package {package}, which cannot be imported ({error}): "
            f"pip install '.[{EXTRAS[package]}]' in the checkout"
        ) from error
