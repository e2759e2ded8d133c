"""Reads TensorFlow checkpoints: ours, the official ones, and the variables of SavedModels."""

import math
import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_simclr.checkpoints.formats.stored import SELECTOR_IS_HIDDEN, Stored
from tf_simclr.checkpoints.formats.tensorflow import (
    object_graph,
    official_graph,
    official_tf1,
    official_tf2,
)
from tf_simclr.errors import ConfigError

VARIABLES = os.path.join("variables", "variables")  # the prefix in the directory of a SavedModel
_SMALLEST_VALUE = 2  # bytes, in half precision


def matches(prefix: str) -> bool:
    """Returns whether a path is the prefix of a checkpoint."""
    return tf.io.gfile.exists(prefix + ".index")


def open(prefix: str) -> Stored:
    """Opens a checkpoint.

    Raises:
      ConfigError: the checkpoint is of another program, or a variable of the model has no numbers.
      READ_ERRORS: the file is truncated or damaged (`weights_file.READ_ERRORS`).
    """
    reader = tf.train.load_checkpoint(prefix)
    shapes = reader.get_variable_to_shape_map()
    kind, keys = _model_keys(reader)
    if prefix.endswith(os.sep + VARIABLES):
        kind = kind.replace("checkpoint", "SavedModel")
    if not keys:
        raise ConfigError(
            f"checkpoint {prefix!r} is neither one of ours nor one of the official code: its "
            f"variables are called {', '.join(sorted(shapes)[:3])}; give another"
        )
    types = reader.get_variable_to_dtype_map()
    for name, key in keys.items():
        if key not in shapes or not types[key].is_floating:
            problem = types[key].name if key in shapes else "not in the file"
            raise ConfigError(
                f"checkpoint {prefix!r} is not one that a run has written ({name} is {problem}): "
                "give another"
            )
    stored = {name: tuple(shapes[key]) for name, key in keys.items()}
    _check_size(prefix, stored)
    settings, notes = {}, []
    if kind.endswith("of the official code"):
        if any(name.startswith(official_tf1.MOVING_AVERAGE) for name in shapes):
            notes.append(
                "The file also has a moving average of the weights (ema_model), which is not used."
            )
        if _selector_is_hidden(stored):
            selector = official_graph.projection_layers_read(prefix)
            if selector is None:
                notes.append(SELECTOR_IS_HIDDEN)
            else:
                settings["ft_proj_selector"] = selector
    return Stored(kind, stored, lambda name: reader.get_tensor(keys[name]), settings, tuple(notes))


def _check_size(prefix: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ValueError if the variables are larger than the files that should hold them.

    The network that the shapes show is built before a value is read.
    """
    claimed = _SMALLEST_VALUE * sum(map(math.prod, shapes.values()))
    files = tf.io.gfile.glob(prefix + ".data-*")
    size = sum(tf.io.gfile.stat(path).length for path in files)
    if claimed > size:
        name = max(shapes, key=lambda name: math.prod(shapes[name]))
        raise ValueError(
            f"its files have {size} bytes, and it claims {claimed}, such as {name} with shape "
            f"{shapes[name]}"
        )


def _model_keys(reader: Any) -> tuple[str, dict[str, str]]:
    """Returns what the checkpoint is, and {our path: key in the file}."""
    names = reader.get_variable_to_shape_map()
    if official_tf1.is_official(names):
        return "a TF1 checkpoint of the official code", official_tf1.checkpoint_keys(reader)
    keys = object_graph.model_keys(reader)
    if official_tf2.is_official(names) or official_tf2.is_official(f"model/{k}" for k in keys):
        return "a TF2 checkpoint of the official code", official_tf2.checkpoint_keys(reader)
    is_ours = any(path.startswith(("base_model/", "head_")) for path in keys)
    return "a checkpoint of this package", keys if is_ours else {}


def _selector_is_hidden(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Returns whether the supervised head could read the backbone or a layer after it."""
    logits = shapes.get("head_supervised/dense/kernel")
    layer = shapes.get("head_contrastive/layer1/dense/kernel")
    return bool(logits and layer and layer[-1] == logits[0])
