"""Reads TensorFlow checkpoints: ours, the official TF2 ones, and the variables of SavedModels."""

import os
from typing import Any

import tensorflow as tf

from tf_simclr.checkpoints.formats import object_graph, official_tf2
from tf_simclr.checkpoints.formats.stored import Stored
from tf_simclr.errors import ConfigError

VARIABLES = os.path.join("variables", "variables")  # the prefix in the directory of a SavedModel


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
            f"variables are called {', '.join(sorted(shapes)[:3])}"
        )
    types = reader.get_variable_to_dtype_map()
    for name, key in keys.items():
        if key not in shapes or not types[key].is_floating:
            problem = types[key].name if key in shapes else "not in the file"
            raise ConfigError(
                f"checkpoint {prefix!r} is not one that a run has written ({name} is {problem}): "
                "give another"
            )
    return Stored(
        kind,
        {name: tuple(shapes[key]) for name, key in keys.items()},
        lambda name: reader.get_tensor(keys[name]),
    )


def _model_keys(reader: Any) -> tuple[str, dict[str, str]]:
    """Returns what the checkpoint is, and {our path: key in the file}."""
    if official_tf2.is_official(reader.get_variable_to_shape_map()):
        return "a TF2 checkpoint of the official code", official_tf2.checkpoint_keys(reader)
    return "a checkpoint of this package", object_graph.model_keys(reader)
