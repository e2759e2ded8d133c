"""Writes a .keras file that loads under both versions of Keras, without code of this package.

The file is a zip of config.json, metadata.json and model.weights.h5. The two versions describe a
graph differently, but Keras 3 also reads the form of Keras 2, so we write that form. We write only
the arguments that both versions have. The weights have the same layout in both.
"""

import json
import os
import shutil
import zipfile
from collections import Counter
from typing import Any

import h5py
import keras
import numpy as np

from tf_simclr.checkpoints.formats.keras.keras_archive import CONFIG, WEIGHTS
from tf_simclr.checkpoints.formats.keras.keras_functional import functional
from tf_simclr.checkpoints.formats.keras.keras_layout import GROUPS, numbered
from tf_simclr.models.simclr import SimCLR

METADATA = "metadata.json"
# {class: the arguments that we keep}. Keras counts the layers of each class by its snake-case name.
ARGUMENTS = {
    "InputLayer": (),
    "Activation": ("activation",),
    "Add": (),
    "AveragePooling2D": ("pool_size", "strides", "padding", "data_format"),
    "BatchNormalization": ("momentum", "epsilon", "center", "scale"),
    "Conv2D": ("filters", "kernel_size", "strides", "padding", "data_format", "use_bias"),
    "Cropping2D": ("cropping", "data_format"),
    "Dense": ("units", "use_bias"),
    "GlobalAveragePooling2D": ("keepdims", "data_format"),
    "Identity": (),
    "MaxPooling2D": ("pool_size", "strides", "padding", "data_format"),
    "Multiply": (),
    "Rescaling": ("scale", "offset"),
    "Reshape": ("target_shape",),
    "Softmax": ("axis",),
    "ZeroPadding2D": ("padding", "data_format"),
}
# Programs that show .keras files need a version, and a fixed one makes equal files equal.
_METADATA = {"keras_version": "2.15.0", "date_saved": "1980-01-01@00:00:00"}


def write(model: SimCLR, path: str) -> None:
    """Writes a model as PATH, a .keras file of a functional model (`keras_functional.functional`).

    The same weights give the same bytes. The file gets its name only when it is complete. It is not
    compiled, and it has no optimizer. To fine-tune it with accuracy as a metric, select one output:
    keras.Model(model.input, model.output["logits_sup"]). With all of them, Keras 3 wants labels for
    each output as soon as there is a metric.

    Args:
      model: the model, of any precision. The file is in float32.
      path: the file's path, which ends in .keras because Keras requires it.

    Raises:
      NotImplementedError: a layer has no counterpart in both versions of Keras.
      OSError: the file cannot be written.
    """
    copy = functional(model)
    config = json.dumps(_model_config(copy))
    unfinished = path + ".unfinished"
    weights = unfinished + ".h5"
    try:
        _write_weights(copy, weights)
        with zipfile.ZipFile(unfinished, "w") as archive:
            archive.writestr(zipfile.ZipInfo(METADATA), json.dumps(_METADATA))
            archive.writestr(zipfile.ZipInfo(CONFIG), config)
            member = zipfile.ZipInfo(WEIGHTS)
            member.file_size = os.path.getsize(weights)
            with open(weights, "rb") as source, archive.open(member, "w") as target:
                shutil.copyfileobj(source, target)
        os.replace(unfinished, path)
    finally:
        for leftover in (weights, unfinished):
            if os.path.exists(leftover):
                os.remove(leftover)


def _model_config(model: keras.Model) -> dict[str, Any]:
    """Returns the content of config.json."""
    names = {id(layer.output): layer.name for layer in model.layers}
    layers = [_layer_config(layer, names) for layer in model.layers]
    outputs = model.output
    return {
        "module": "keras",
        "class_name": "Model",
        "registered_name": None,  # Keras 3 rejects a name for a class of its own
        "config": {
            "name": model.name,
            "trainable": True,
            "layers": layers,
            "input_layers": [names[id(model.inputs[0])], 0, 0],
            "output_layers": {name: [names[id(outputs[name])], 0, 0] for name in sorted(outputs)},
        },
    }


def _layer_config(layer: keras.layers.Layer, names: dict[int, str]) -> dict[str, Any]:
    kind = type(layer).__name__
    if kind not in ARGUMENTS:
        raise NotImplementedError(f"a .keras file for both versions of Keras has no {kind}")
    settings = layer.get_config()
    config = {name: _plain(settings[name]) for name in ARGUMENTS[kind]}
    config |= {"name": layer.name, "dtype": "float32"}
    nodes = []
    if kind == "InputLayer":
        config["batch_input_shape"] = list(layer.output.shape)
    else:
        config["trainable"] = True
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        nodes = [[[names[id(tensor)], 0, 0, {}] for tensor in inputs]]
    return {
        "module": "keras.layers",
        "class_name": kind,
        "config": config,
        "registered_name": None,
        "name": layer.name,
        "inbound_nodes": nodes,
    }


def _plain(value: Any) -> Any:
    """Returns a setting as JSON has it: lists instead of tuples and arrays."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _write_weights(model: keras.Model, path: str) -> None:
    """Writes the variables as layers/CLASS_N/vars/I, which both versions of Keras read."""
    counts: Counter[str] = Counter()
    with h5py.File(path, "w") as file:
        file.create_group("vars")  # the model's own variables; Keras 2 requires the group
        for layer in model.layers:
            values = layer.get_weights()
            if not values:
                continue
            group = GROUPS[type(layer).__name__]
            for i, value in enumerate(values):
                file[f"layers/{numbered(group, counts[group])}/vars/{i}"] = value
            counts[group] += 1
