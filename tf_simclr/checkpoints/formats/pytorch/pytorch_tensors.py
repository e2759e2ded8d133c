"""Reads the tensors of PyTorch files as data: safetensors, and pickles through torch.

A pickle is a program. torch.load(weights_only=True) interprets only the instructions that build
tensors and containers, and refuses the others.
"""

import importlib.metadata
import json
import os
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tf_simclr.checkpoints.formats import optional
from tf_simclr.errors import ConfigError, one_line

MAX_TENSORS = 200_000  # a ResNet-200 with its optimizer has a few thousand
MAX_DEPTH = 20  # of nested dictionaries
_SAFE_TORCH = (2, 6)
_ZIP = b"PK\x03\x04"
_FLOATS = {"F16", "BF16", "F32", "F64"}
# Files of PyTorch Lightning also contain settings: objects of these packages and of these types.
# An inert object takes the place of each of them, so none of their code runs.
_SETTINGS_PACKAGES = {
    "argparse",
    "collections",
    "lightning",
    "lightning_fabric",
    "numpy",
    "omegaconf",
    "pathlib",
    "pytorch_lightning",
    "typing",
}
_SETTINGS_TYPES = {f"builtins.{name}" for name in ("bool", "dict", "float", "int", "list", "str")}


class Tensors(NamedTuple):
    """The floating-point tensors of a file.

    Attributes:
      shapes: {name: shape}; the names of nested dictionaries are joined by dots.
      read: function from a name to the float32 value.
      metadata: the texts that a safetensors file holds beside its tensors.
    """

    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]
    metadata: Mapping[str, str]


def read_safetensors(path: str) -> Tensors:
    """Opens a safetensors file.

    Raises:
      ConfigError: the package safetensors is not installed.
      ValueError: the file is damaged.
      OSError: the file cannot be read.
    """
    safetensors = optional.require("safetensors", reason=f"reading {path!r}")
    try:
        # The package checks that the header and all tensors are within the file.
        file = safetensors.safe_open(path, framework="numpy")
        names = file.keys()
        if len(names) > MAX_TENSORS:
            raise ValueError(f"it has more than {MAX_TENSORS} tensors")
        slices = {name: file.get_slice(name) for name in names}
        floats = {name: s for name, s in slices.items() if s.get_dtype() in _FLOATS}
        metadata = file.metadata() or {}
        bfloat16 = [name for name, s in floats.items() if s.get_dtype() == "BF16"]
        places = _places(path, bfloat16) if bfloat16 else {}
    except safetensors.SafetensorError as error:
        raise ValueError(one_line(error)) from error

    def read(name: str) -> np.ndarray:
        if name in places:  # NumPy has no bfloat16
            return _read_bfloat16(path, *places[name], shapes[name])
        try:
            return np.asarray(file.get_tensor(name), np.float32)
        except safetensors.SafetensorError as error:
            raise ValueError(one_line(error)) from error

    shapes = {name: tuple(s.get_shape()) for name, s in floats.items()}
    return Tensors(shapes, read, metadata)


def _places(path: str, names: list[str]) -> dict[str, tuple[int, int]]:
    """Returns where tensors begin and end in a safetensors file whose header has been checked."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    offsets = {name: header[name]["data_offsets"] for name in names}
    return {name: (8 + length + begin, 8 + length + end) for name, (begin, end) in offsets.items()}


def _read_bfloat16(path: str, begin: int, end: int, shape: tuple[int, ...]) -> np.ndarray:
    """Reads a bfloat16 tensor: the upper halves of float32 values."""
    with open(path, "rb") as file:
        file.seek(begin)
        halves = np.frombuffer(file.read(end - begin), "<u2").reshape(shape)
    return (halves.astype("<u4") << 16).view("<f4")


def read_pickle(path: str) -> Tensors:
    """Opens a file that torch.save has written. Runs no code from the file.

    Raises:
      ConfigError: torch is not installed, or older than 2.6.
      ValueError: the file is damaged, or contains other objects than tensors and settings.
      OSError: the file cannot be read.
    """
    torch = optional.require("torch", reason=f"reading {path!r}")
    version = importlib.metadata.version("torch")
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < _SAFE_TORCH:
        # Before, a file could run code in spite of weights_only (CVE-2025-32434).
        raise ConfigError(
            f"reading {path!r} needs torch 2.6 or later, and this is {version}: "
            "pip install 'torch>=2.6'"
        )
    try:
        tensors = _flatten(_load(torch, path), torch)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        raise ValueError(_reason(error)) from error

    def read(name: str) -> np.ndarray:
        return np.array(tensors[name].detach().to(torch.float32).numpy())

    return Tensors({name: tuple(t.shape) for name, t in tensors.items()}, read, {})


def _load(torch: Any, path: str) -> Any:
    with open(path, "rb") as file:
        is_zip = file.read(4) == _ZIP
    unknown = []
    if is_zip:
        _check_parts(path)
        unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    inert = [(_Inert, name) for name in unknown if _is_setting(name)]
    with torch.serialization.safe_globals(inert):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)


def _check_parts(path: str) -> None:
    """Raises ValueError if the parts of a zip file are larger than the file.

    torch.save never compresses them, and never shares bytes between them.
    """
    with zipfile.ZipFile(path) as archive:
        if sum(part.file_size for part in archive.infolist()) > os.path.getsize(path):
            raise ValueError("its parts are larger than the file")


class _Inert:
    """Takes the place of an object that holds settings. Ignores all that the file says of it."""

    def __init__(self, *args: Any, **kwargs: Any):
        """Does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "_Inert":
        """Makes an object without attributes."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Does nothing."""


def _is_setting(name: str) -> bool:
    return name.partition(".")[0] in _SETTINGS_PACKAGES or name in _SETTINGS_TYPES


def _flatten(content: Any, torch: Any) -> dict[str, Any]:
    """Collects the floating-point tensors of nested dictionaries: {"a.b.c": tensor}."""
    tensors: dict[str, Any] = {}
    visited: set[int] = set()
    dictionaries = [("", content, 0)]
    while dictionaries:
        prefix, dictionary, depth = dictionaries.pop()
        # A dictionary may contain itself.
        if not isinstance(dictionary, dict) or id(dictionary) in visited or depth > MAX_DEPTH:
            continue
        visited.add(id(dictionary))
        for key, value in dictionary.items():
            if not isinstance(key, str):  # the numbers of an optimizer's state
                continue
            if isinstance(value, dict):
                dictionaries.append((f"{prefix}{key}.", value, depth + 1))
            elif torch.is_tensor(value) and _has_numbers(value, torch):
                tensors.setdefault(prefix + key, value)
        if len(tensors) > MAX_TENSORS:
            raise ValueError(f"it has more than {MAX_TENSORS} tensors")
    return tensors


def _has_numbers(tensor: Any, torch: Any) -> bool:
    return (
        tensor.is_floating_point()
        and tensor.layout == torch.strided
        and not tensor.is_quantized
        and tensor.device.type == "cpu"
    )


def _reason(error: Exception) -> str:
    """Says why torch refuses a file. Its own advice is to run the file's code."""
    text = str(error)
    if match := re.search(r"GLOBAL ([\w.]+)", text):
        return (
            f"it contains the object {match[1][:100]}, whose code is not run; save only the "
            "state_dict of the network"
        )
    if "weights_only" in text:
        return "it is not a dictionary of tensors that torch.save has written"
    return one_line(text or error)
