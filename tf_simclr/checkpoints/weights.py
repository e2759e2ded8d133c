"""Reads the model's weights from our checkpoints, SavedModels, or official TF2 checkpoints."""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from tf_simclr.checkpoints.formats import object_graph, official_tf2
from tf_simclr.errors import ConfigError, one_line
from tf_simclr.models.simclr import SimCLR

# The exceptions of TensorFlow's readers for truncated or damaged files.
READ_ERRORS = (tf.errors.OpError, RuntimeError, ValueError, IndexError, DecodeError)
SUPERVISED_HEAD = "head_supervised/"
# What to do if a shape differs, by the part of the model.
_WAYS_OUT = {
    "base_model": "give the model flags that it was trained with",
    "head_contrastive": "give the projection head's flags that it was trained with, or leave both "
    "heads out with --variable_schema='(?!head)'",
    "head_supervised": "leave the head out with --zero_init_logits_layer or "
    "--variable_schema='(?!head_supervised)'",
}


@dataclasses.dataclass(frozen=True)
class RestoreReport:
    """Says what `restore_weights` did with each variable of the model.

    Attributes:
      restored: paths of the variables that were set from the checkpoint.
      skipped: paths of the variables that the settings leave out.
      missing: paths of the variables that the checkpoint lacks.
    """

    restored: list[str]
    skipped: list[str]
    missing: list[str]

    def __str__(self) -> str:
        """Formats a table of the number of variables in each part of the model."""
        columns = {
            "restored": self.restored,
            "left out": self.skipped,
            "missing": self.missing,
        }
        parts = sorted({path.split("/")[0] for paths in columns.values() for path in paths})
        rows = [f"  {'variables':<18}" + "".join(f"{title:>11}" for title in columns)]
        for part in parts:
            counts = (sum(p.split("/")[0] == part for p in paths) for paths in columns.values())
            rows.append(f"  {part:<18}" + "".join(f"{count or '-':>11}" for count in counts))
        return "\n".join(rows)


def restore_weights(
    model: SimCLR,
    path: str,
    *,
    variable_schema: str | None = None,
    zero_init_logits_layer: bool = False,
) -> RestoreReport:
    """Sets the model's variables from one of our checkpoints or an official TF2 checkpoint.

    Args:
      model: the model whose variables are set.
      path: a prefix, a directory of checkpoints (the latest is used) or a SavedModel.
      variable_schema: regular expression. Only variables whose path it matches (re.match) are set.
      zero_init_logits_layer: zero the supervised head instead of restoring it.

    Raises:
      ConfigError: there is no such checkpoint, it lacks a part of the encoder that the schema
        selects, or a shape differs. In that case no variable is changed.
    """
    stored = StoredWeights(path)
    selected, skipped, missing = {}, [], []
    for name, variable in model.variables_by_path().items():
        is_supervised = name.startswith(SUPERVISED_HEAD)
        if variable_schema is not None and not re.match(variable_schema, name):
            skipped.append(name)
        elif is_supervised and zero_init_logits_layer:
            skipped.append(name)
        elif name not in stored.shapes:
            missing.append(name)
        elif stored.shapes[name] != tuple(variable.shape):
            raise ConfigError(
                f"checkpoint {path!r}: {name} has shape {stored.shapes[name]} there and "
                f"{tuple(variable.shape)} here; {_WAYS_OUT[name.split('/')[0]]}"
            )
        else:
            selected[name] = variable
    missing_encoder = [name for name in missing if name.startswith("base_model/")]
    if missing_encoder or not selected:
        problem = (
            f"lacks {missing_encoder[0]}"
            if missing_encoder
            else "has no variable that variable_schema selects"
        )
        raise ConfigError(
            f"checkpoint {path!r} {problem}. Was it trained with other model flags? Give the model "
            "flags that it was trained with"
        )
    # Read all values before assigning the first, because reading may fail.
    values = {name: stored.read(name) for name in selected}
    for name, variable in selected.items():
        variable.assign(values[name])
    if zero_init_logits_layer and model.supervised_head is not None:
        for variable in model.supervised_head.variables:
            variable.assign(tf.zeros_like(tf.convert_to_tensor(variable)))
    return RestoreReport(list(selected), skipped, missing)


class StoredWeights:
    """The model's variables in a checkpoint or SavedModel. Values are read on demand.

    A file may claim any shape, so compare `shapes` with the model before reading a value.

    Attributes:
      shapes: {our path: shape}, available without reading a value.
    """

    def __init__(self, path: str):
        """Opens the checkpoint or SavedModel that a path names (`find`).

        Raises:
          ConfigError: there is no such file, it is damaged, or its variables have unknown names or
            do not hold floating-point numbers.
        """
        self._path = path
        with self._read_errors_in_one_line():
            self._reader, self._keys = _open(find(path))
            shapes = self._reader.get_variable_to_shape_map()
            types = self._reader.get_variable_to_dtype_map()
        if not self._keys:
            raise ConfigError(
                f"checkpoint {path!r} is neither one of ours nor one of the official TF2 code: its "
                f"variables are called {', '.join(sorted(shapes)[:3])}"
            )
        for name, key in self._keys.items():
            if key not in shapes or not types[key].is_floating:
                problem = types[key].name if key in shapes else "not in the file"
                raise ConfigError(
                    f"checkpoint {path!r} is not one that a run has written ({name} is {problem}): "
                    "give another"
                )
        self.shapes: dict[str, tuple] = {
            name: tuple(shapes[key]) for name, key in self._keys.items()
        }

    @property
    def num_classes(self) -> int | None:
        """Returns the number of classes of the supervised head; None if there is no head."""
        bias = self.shapes.get(f"{SUPERVISED_HEAD}dense/bias")
        return bias[0] if bias else None

    def read(self, name: str) -> np.ndarray:
        """Reads the value of one variable.

        Raises:
          ConfigError: the file is damaged.
        """
        with self._read_errors_in_one_line():
            return self._reader.get_tensor(self._keys[name])

    @contextlib.contextmanager
    def _read_errors_in_one_line(self) -> Iterator[None]:
        try:
            yield
        except ConfigError:
            raise
        except (*READ_ERRORS, MemoryError) as error:
            raise ConfigError(
                f"checkpoint {self._path!r} cannot be read ({one_line(error)}): give another"
            ) from error


def read_weights(path: str) -> dict[str, np.ndarray]:
    """Reads all variables of the model from a checkpoint or SavedModel.

    Returns:
      {our path: value}.

    Raises:
      ConfigError: there is no such file, or its variables have unknown names.
    """
    stored = StoredWeights(path)
    return {name: stored.read(name) for name in stored.shapes}


def read_shapes(prefix: str) -> dict[str, tuple]:
    """Reads the shapes of the model's variables from one of our checkpoints.

    Returns:
      {our path: shape}.

    Raises:
      READ_ERRORS: the file is truncated or damaged.
    """
    reader = tf.train.load_checkpoint(prefix)
    shapes = reader.get_variable_to_shape_map()
    keys = object_graph.model_keys(reader)
    if missing := [key for key in keys.values() if key not in shapes]:
        raise ValueError(f"it lacks {missing[0]}, which it lists")
    return {path: tuple(shapes[key]) for path, key in keys.items()}


def find(path: str) -> str:
    """Finds the checkpoint that a path names: a prefix, a directory or a SavedModel.

    Returns:
      The prefix of the checkpoint.

    Raises:
      ConfigError: there is none.
    """
    if tf.io.gfile.exists(path + ".index"):
        return path
    if tf.io.gfile.isdir(path):
        if latest := tf.train.latest_checkpoint(path):
            return latest
        # The checkpoints were copied without the file `checkpoint`, which lists them.
        if indices := tf.io.gfile.glob(os.path.join(path, "*-*.index")):
            return max(indices, key=_step).removesuffix(".index")
        saved_model = os.path.join(path, "variables", "variables")
        if tf.io.gfile.exists(saved_model + ".index"):
            return saved_model
        raise ConfigError(f"checkpoint {path!r} is a directory without checkpoint or SavedModel")
    raise ConfigError(
        f"checkpoint {path!r} does not exist: give a prefix such as DIR/ckpt-1000, a model_dir "
        "or the directory of a SavedModel"
    )


def _step(index: str) -> int:
    """Returns 42 for DIR/ckpt-42.index, and -1 for a name without a number."""
    number = index.removesuffix(".index").rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def _open(prefix: str) -> tuple[Any, dict[str, str]]:
    """Opens a checkpoint in any of the formats: (reader, {our path: key in the file})."""
    reader = tf.train.load_checkpoint(prefix)
    if official_tf2.is_official(reader.get_variable_to_shape_map()):
        return reader, official_tf2.checkpoint_keys(reader)
    return reader, object_graph.model_keys(reader)
