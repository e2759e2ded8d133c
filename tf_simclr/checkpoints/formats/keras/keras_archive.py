"""Opens the parts of a .keras file as data: its config.json and its weights."""

import json
import lzma
import shutil
import tempfile
import zipfile
import zlib
from typing import Any

import h5py

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError)
MAX_CONFIG_BYTES = 2**24  # a ResNet-200 with selective kernels has less than two MiB


def read(path: str) -> tuple[dict[str, Any], h5py.File]:
    """Opens a .keras file. Nothing in it becomes a layer, and no name in it becomes a path.

    HDF5 cannot read inside a zip, so the weights are copied to a temporary file without a name.

    Returns:
      The content of config.json, and the weights.

    Raises:
      ValueError: the file is damaged, or it is not a .keras file.
      OSError: the file cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config = _config(archive)
            return config, _weights(archive)
    # The reader of encrypted and of compressed members raises the last two.
    except (*_ZIP_ERRORS, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"it is not an intact .keras file: {error}") from error


def _config(archive: zipfile.ZipFile) -> dict[str, Any]:
    member = _member(archive, CONFIG)
    with archive.open(member) as file:
        content = file.read(MAX_CONFIG_BYTES + 1)
    if len(content) > MAX_CONFIG_BYTES:
        raise ValueError(f"its {CONFIG} has more than {MAX_CONFIG_BYTES} bytes")
    try:
        config = json.loads(content)
    except RecursionError:
        raise ValueError(f"its {CONFIG} is nested too deeply") from None
    if not isinstance(config, dict):
        raise ValueError(f"its {CONFIG} is not a JSON object")
    return config


def _weights(archive: zipfile.ZipFile) -> h5py.File:
    member = _member(archive, WEIGHTS)
    if member.compress_type != zipfile.ZIP_STORED:
        # Keras never compresses the weights. A few compressed bytes could fill the disk.
        raise ValueError(f"its {WEIGHTS} is compressed")
    with archive.open(member) as source:
        copy = tempfile.TemporaryFile()
        shutil.copyfileobj(source, copy)  # checks the sum at the end
    return h5py.File(copy, "r")


def _member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    if archive.namelist().count(name) != 1:
        raise ValueError(f"it has {archive.namelist().count(name)} members {name}, not one")
    return archive.getinfo(name)
