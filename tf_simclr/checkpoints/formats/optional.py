"""Imports packages that only some formats need, and names a missing one with its install line."""

import importlib
from typing import Any

from tf_simclr.errors import ConfigError

# Import names and pip names. The extras in setup.cfg pin the versions.
PACKAGES = {
    "torch": "torch",
    "safetensors": "safetensors",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "tf2onnx": "tf2onnx",
    "ai_edge_litert": "ai-edge-litert",
}


def require(module: str, *, reason: str) -> Any:
    """Imports an optional module, such as "safetensors.numpy".

    Args:
      module: the full name of the module.
      reason: what needs it, the start of a sentence: "reading 'model.safetensors'".

    Raises:
      ConfigError: the package is not installed, or it cannot be imported.
    """
    package = PACKAGES[module.partition(".")[0]]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{reason} needs the package {package}, which cannot be imported ({error}): "
            f"pip install {package}"
        ) from error
