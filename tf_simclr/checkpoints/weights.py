"""Weights out of any checkpoint that has them: ours, a SavedModel's, the official TF2 code's."""

import contextlib
import dataclasses
import os
import re
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from tf_simclr.checkpoints import object_graph
from tf_simclr.checkpoints.formats import official_tf2
from tf_simclr.checkpoints.object_graph import OBJECT_GRAPH  # noqa: F401  Tools name it, too.
from tf_simclr.errors import ConfigError, one_line
from tf_simclr.models.simclr import SimCLR

# What TensorFlow's readers raise on files that are cut short or spoilt.
READ_ERRORS = (tf.errors.OpError, RuntimeError, ValueError, IndexError, DecodeError)
SUPERVISED_HEAD = "head_supervised/"
# What to do where a shape differs, by part of the model.
_HINTS = {
    "base_model": "give the model flags that it was trained with",
    "head_contrastive": "give the projection head's flags that it was trained with, or leave both "
    "heads out with --variable_schema='(?!head)'",
    "head_supervised": "leave the head out with --zero_init_logits_layer or "
    "--variable_schema='(?!head_supervised)'",
}


@dataclasses.dataclass(frozen=True)
class RestoreReport:
    """Paths of the variables that restore_weights took, left out, and did not find."""

    restored: list[str]
    skipped: list[str]
    missing: list[str]

    def __str__(self):
        """A table of how many variables of each part of the model went which way."""
        ways = {
            "restored": self.restored,
            "left out": self.skipped,
            "missing": self.missing,
        }
        parts = sorted({path.split("/")[0] for paths in ways.values() for path in paths})
        rows = [f"  {'variables':<18}" + "".join(f"{way:>11}" for way in ways)]
        for part in parts:
            counts = (sum(p.split("/")[0] == part for p in paths) for paths in ways.values())
            rows.append(f"  {part:<18}" + "".join(f"{count or '-':>11}" for count in counts))
        return "\n".join(rows)


def restore_weights(
    model: SimCLR,
    path: str,
    *,
    variable_schema: str | None = None,
    zero_init_logits_layer: bool = False,
) -> RestoreReport:
    """Sets the model's variables from a checkpoint of ours or of the official TF2 code.

    Args:
      path: prefix, directory of checkpoints (model_dir: the latest is taken) or SavedModel.
      variable_schema: regular expression; only variables whose path it matches (re.match) are set.
      zero_init_logits_layer: the supervised head is not restored but zeroed.

    Raises:
      ConfigError: no such checkpoint; a part of the encoder that the schema selects is not in it; a
        shape differs. Nothing is assigned in these cases.
    """
    stored = Stored(path)
    chosen, skipped, missing = {}, [], []
    for name, variable in model.variables_by_path().items():
        supervised = name.startswith(SUPERVISED_HEAD)
        if variable_schema is not None and not re.match(variable_schema, name):
            skipped.append(name)
        elif supervised and zero_init_logits_layer:
            skipped.append(name)
        elif name not in stored.shapes:
            missing.append(name)
        elif stored.shapes[name] != tuple(variable.shape):
            raise ConfigError(
                f"checkpoint {path!r}: {name} has shape {stored.shapes[name]} there and "
                f"{tuple(variable.shape)} here; {_HINTS[name.split('/')[0]]}"
            )
        else:
            chosen[name] = variable
    lost = [name for name in missing if name.startswith("base_model/")]
    if lost or not chosen:
        what = f"lacks {lost[0]}" if lost else "has no variable that variable_schema selects"
        raise ConfigError(
            f"checkpoint {path!r} {what}: is it of another model? Give the model flags that it was "
            "trained with"
        )
    values = {name: stored.read(name) for name in chosen}
    for name, variable in chosen.items():
        variable.assign(values[name])
    if zero_init_logits_layer and model.supervised_head is not None:
        for variable in model.supervised_head.variables:
            variable.assign(tf.zeros_like(tf.convert_to_tensor(variable)))
    return RestoreReport(list(chosen), skipped, missing)


class Stored:
    """The model's variables in a checkpoint or SavedModel, each of them read when asked for.

    A file may claim any shape, so compare `shapes` before reading.

    Attributes:
      shapes: {our path: shape}, without a value being read.
    """

    def __init__(self, path: str):
        """Opens the file that `find` finds.

        Raises:
          ConfigError: there is none, it is spoilt, or its variables have unknown names or are no
            numbers.
        """
        self._path = path
        with self._in_one_line():
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
                what = types[key].name if key in shapes else "not in the file"
                raise ConfigError(
                    f"checkpoint {path!r} is not one that a run has written ({name} is {what}): "
                    "give another"
                )
        self.shapes = {name: tuple(shapes[key]) for name, key in self._keys.items()}

    def read(self, name: str) -> np.ndarray:
        """Reads the value of one variable.

        Raises:
          ConfigError: the file is spoilt.
        """
        with self._in_one_line():
            return self._reader.get_tensor(self._keys[name])

    @contextlib.contextmanager
    def _in_one_line(self):
        try:
            yield
        except ConfigError:
            raise
        except (*READ_ERRORS, MemoryError) as error:
            raise ConfigError(
                f"checkpoint {self._path!r} cannot be read ({one_line(error)}): give another"
            ) from error


def read_weights(path: str) -> dict[str, np.ndarray]:
    """{our path: value} of the model's variables in a checkpoint or SavedModel.

    Raises:
      ConfigError: there is none, or its variables have unknown names.
    """
    stored = Stored(path)
    return {name: stored.read(name) for name in stored.shapes}


def read_shapes(prefix: str) -> dict[str, tuple]:
    """{our path: shape} of the model's variables in one of our checkpoints.

    Raises:
      READ_ERRORS: the file is cut short or spoilt.
    """
    reader = tf.train.load_checkpoint(prefix)
    shapes = reader.get_variable_to_shape_map()
    keys = object_graph.model_keys(reader)
    if lost := [key for key in keys.values() if key not in shapes]:
        raise ValueError(f"it lacks {lost[0]}, which it lists")
    return {path: tuple(shapes[key]) for path, key in keys.items()}


def find(path: str) -> str:
    """Prefix of the checkpoint that a path names: prefix, directory or SavedModel.

    Raises:
      ConfigError: there is none.
    """
    if tf.io.gfile.exists(path + ".index"):
        return path
    if tf.io.gfile.isdir(path):
        if latest := tf.train.latest_checkpoint(path):
            return latest
        if copied := tf.io.gfile.glob(os.path.join(path, "*-*.index")):  # without their list
            return max(copied, key=_step_of).removesuffix(".index")
        saved_model = os.path.join(path, "variables", "variables")
        if tf.io.gfile.exists(saved_model + ".index"):
            return saved_model
        raise ConfigError(f"checkpoint {path!r} is a directory without checkpoint or SavedModel")
    raise ConfigError(
        f"checkpoint {path!r} does not exist: give a prefix such as DIR/ckpt-1000, a model_dir "
        "or the directory of a SavedModel"
    )


def _step_of(index: str) -> int:
    """42 for DIR/ckpt-42.index; -1 where there is no number."""
    number = index.removesuffix(".index").rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def _open(prefix: str) -> tuple[Any, dict[str, str]]:
    """Opens a checkpoint: a reader and {our path: key in the file}."""
    reader = tf.train.load_checkpoint(prefix)
    if official_tf2.is_official(reader.get_variable_to_shape_map()):
        return reader, official_tf2.checkpoint_keys(reader)
    return reader, object_graph.model_keys(reader)
