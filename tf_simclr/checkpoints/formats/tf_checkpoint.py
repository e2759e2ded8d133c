"""Reads TensorFlow checkpoints: ours, the official ones, and the variables of SavedModels."""

import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_simclr.checkpoints.formats import object_graph, official_tf1, official_tf2
from tf_simclr.checkpoints.formats.stored import Stored
from tf_simclr.errors import ConfigError

_SELECTOR = (
    "the file does not show which output its supervised head reads: give --ft_proj_selector if it "
    "is not that of the backbone (1 for SimCLRv2's weights that were fine-tuned with 1% or 10% of "
    "the labels)"
)
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
    stored = {name: tuple(shapes[key]) for name, key in keys.items()}
    notes = _notes(reader, kind, stored)
    return Stored(kind, stored, lambda name: reader.get_tensor(keys[name]), notes=notes)


def _model_keys(reader: Any) -> tuple[str, dict[str, str]]:
    """Returns what the checkpoint is, and {our path: key in the file}."""
    names = reader.get_variable_to_shape_map()
    if official_tf1.is_official(names):
        return "a TF1 checkpoint of the official code", official_tf1.checkpoint_keys(reader)
    keys = object_graph.model_keys(reader)
    if official_tf2.is_official(names) or official_tf2.is_official(f"model/{k}" for k in keys):
        return "a TF2 checkpoint of the official code", official_tf2.checkpoint_keys(reader)
    return "a checkpoint of this package", keys


def _notes(reader: Any, kind: str, stored: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Returns what the official files do not say, or have besides the model."""
    if not kind.endswith("of the official code"):
        return ()
    notes = []
    if any(
        name.startswith(official_tf1.MOVING_AVERAGE) for name in reader.get_variable_to_shape_map()
    ):
        notes.append("the moving average of the weights in the file (ema_model) is not used")
    logits = stored.get("head_supervised/dense/kernel")
    first = stored.get("head_contrastive/layer1/dense/kernel")
    if logits and first and first[-1] == logits[0]:
        notes.append(_SELECTOR)
    return tuple(notes)
