"""Reads .keras and .weights.h5 files of Keras 2 and Keras 3, as data.

There are three kinds: the functional model of `keras_writer`, also after a program has trained it
and saved it again; a SimCLR that model.save has written; and the weights that a SimCLR's
save_weights has written. Nothing in config.json becomes an object.
"""

import re
from typing import Any

import h5py
import numpy as np

from tf_simclr.checkpoints.about_file import HIDDEN_SETTINGS, parse_network
from tf_simclr.checkpoints.formats.keras import hdf5, keras_archive, keras_layout
from tf_simclr.checkpoints.formats.keras.keras_functional import functional
from tf_simclr.checkpoints.formats.keras.keras_writer import ARGUMENTS, write
from tf_simclr.checkpoints.formats.stored import Stored
from tf_simclr.errors import ConfigError
from tf_simclr.models.resnet import NORMALIZATIONS

__all__ = ["functional", "matches", "open", "write"]
_H5 = (".h5", ".hdf5")
_LAYER_NAME = re.compile(r"(base_model|head_contrastive|head_supervised)(\.\w+)+", re.ASCII)
_PROJECTION = re.compile(r"head_contrastive\.layer(\d{1,3})\..*", re.ASCII)
_MAX_POOL_PAD, _NORMALIZE = "base_model.stem.max_pool.pad", "base_model.stem.normalize"
_HIDDEN = (
    f"A file of weights alone does not show {', '.join(HIDDEN_SETTINGS)}. If the model did not use "
    "their defaults, give them as flags."
)


def matches(path: str) -> bool:
    """Returns whether a path has an extension of Keras."""
    return path.endswith((".keras", *_H5))


def open(path: str) -> Stored:
    """Opens a file of Keras.

    Raises:
      ConfigError: the file is of another model.
      READ_ERRORS: the file is truncated or damaged (`weights_file.READ_ERRORS`).
    """
    if path.endswith(_H5):
        arrays = keras_layout.subclass(h5py.File(path, "r"))
        return _stored("Keras weights of a SimCLR", path, arrays, {}, notes=(_HIDDEN,))
    content, root = keras_archive.read(path)
    config = content.get("config")
    if isinstance(config, dict) and content.get("class_name") == "SimCLR":
        arrays = keras_layout.subclass(root)
        values = parse_network(config, where="its config.json")
        return _stored("a Keras file of a SimCLR", path, arrays, values)
    if isinstance(config, dict) and isinstance(config.get("layers"), list):
        layers = [_class_and_name(layer) for layer in config["layers"]]
        arrays = keras_layout.functional(root, layers)
        values = _settings_of_graph(config["layers"])
        return _stored("a Keras file of a functional model", path, arrays, values)
    raise ConfigError(
        f"checkpoint {path!r} is a Keras model of class {str(content.get('class_name'))[:60]!r}, "
        "not one that this package or its SimCLR has written: give another"
    )


def _stored(
    kind: str,
    path: str,
    arrays: keras_layout.Arrays,
    values: dict[str, Any],
    notes: tuple[str, ...] = (),
) -> Stored:
    if "base_model/stem/conv/kernel" not in arrays:
        raise ConfigError(
            f"checkpoint {path!r} does not hold the weights of a SimCLR. Weights of a functional "
            "model have no names: save the whole model as a .keras file"
        )
    return Stored(
        kind,
        {name: tuple(array.shape) for name, array in arrays.items()},
        lambda name: hdf5.read(arrays[name]),
        values,
        notes,
    )


def _class_and_name(layer: Any) -> tuple[str, str]:
    """Returns the class and the name of a layer of a functional model.

    Raises:
      ValueError: our network has no such layer, so the weights alone do not make the same model.
    """
    kind = layer.get("class_name") if isinstance(layer, dict) else None
    name = layer.get("name") if isinstance(layer, dict) else None
    if not isinstance(name, str) or not isinstance(kind, str) or kind not in ARGUMENTS:
        raise ValueError(
            f"it has a layer {str(name)[:60]!r} of class {str(kind)[:60]!r}, and the models of "
            "this package have none"
        )
    if kind in keras_layout.GROUPS and not _LAYER_NAME.fullmatch(name):
        raise ValueError(f"it has a layer {name[:60]!r}, which is not a layer of a SimCLR")
    return kind, name


def _settings_of_graph(layers: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the settings that the layers of a functional model show, and no shape.

    Raises:
      ValueError: the model normalizes images as none of ours does.
    """
    by_name = {layer["name"]: layer for layer in layers}
    padding = "symmetric" if _MAX_POOL_PAD in by_name else "same"
    values: dict[str, Any] = {
        "max_pool_padding": padding,
        "input_normalization": _normalization(by_name.get(_NORMALIZE)),
    }
    if head := by_name.get("head_supervised.dense"):
        name = _first_input(head.get("inbound_nodes"))
        if not name:
            raise ValueError("the input of its supervised head is described in an unknown form")
        match = _PROJECTION.fullmatch(name)
        values["ft_proj_selector"] = int(match[1]) if match else 0
    return values


def _normalization(layer: dict[str, Any] | None) -> str:
    """Returns the input_normalization of the layer that rescales the images."""
    if layer is None:
        return "none"
    config: Any = layer.get("config")
    for name, (mean, deviation) in NORMALIZATIONS.items():
        scale = [1 / d for d in deviation]
        offset = [-m / d for m, d in zip(mean, deviation, strict=True)]
        try:
            if np.allclose([config["scale"], config["offset"]], [scale, offset], rtol=1e-4):
                return name
        except (KeyError, TypeError, ValueError):  # a description of another form
            break
    raise ValueError(
        f"its layer {_NORMALIZE!r} has other values than {' and '.join(NORMALIZATIONS)}"
    )


def _first_input(nodes: Any) -> str:
    """Returns the name of a layer's first input; '' if its description has another form."""
    try:
        first = nodes[0]
        if isinstance(first, list):  # Keras 2: [[[name, node, tensor, arguments]]]
            return str(first[0][0])
        return str(first["args"][0]["config"]["keras_history"][0])
    except (IndexError, KeyError, TypeError):
        return ""
