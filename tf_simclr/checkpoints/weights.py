"""Sets the model's variables from a file of weights."""

import dataclasses
import re
from collections.abc import Collection, Iterable

import numpy as np
import tensorflow as tf

from tf_simclr.checkpoints.formats.stored import SUPERVISED_HEAD, Stored
from tf_simclr.checkpoints.formats.tensorflow import object_graph
from tf_simclr.checkpoints.weights_file import READ_ERRORS, find, open_weights
from tf_simclr.errors import ConfigError, listed
from tf_simclr.models.simclr import SimCLR

__all__ = [
    "READ_ERRORS",
    "find",
    "open_weights",
    "read_shapes",
    "read_weights",
    "restore",
    "restore_weights",
]
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
    """Opens a file of weights (`weights_file.find`) and sets the model's variables (`restore`)."""
    return restore(
        model,
        open_weights(path),
        path,
        variable_schema=variable_schema,
        zero_init_logits_layer=zero_init_logits_layer,
    )


def restore(
    model: SimCLR,
    stored: Stored,
    path: str,
    *,
    variable_schema: str | None = None,
    zero_init_logits_layer: bool = False,
) -> RestoreReport:
    """Sets the model's variables.

    Args:
      model: the model whose variables are set.
      stored: the weights (`weights_file.open_weights`).
      path: the path that the user gave, for error messages.
      variable_schema: regular expression. Only variables whose path it matches (re.match) are set.
      zero_init_logits_layer: zero the supervised head instead of restoring it.

    Raises:
      ConfigError: among the variables that the schema selects, the file lacks a part of the
        encoder, has parts that the model lacks, or has another shape. No variable is changed then.
    """
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
    names = model.variables_by_path()
    missing_encoder = [name for name in missing if name.startswith("base_model/")]
    unknown = _unknown(stored.shapes, names, variable_schema)
    for problem, differences in (("lacks", missing_encoder), ("also has", unknown)):
        if differences:
            raise ConfigError(
                f"checkpoint {path!r} {problem} {listed(differences)}. Was it trained with other "
                "model flags? Give the model flags that it was trained with"
            )
    if not selected:
        raise ConfigError(
            f"checkpoint {path!r} has no variable that variable_schema selects: the variables are "
            f"called {listed(stored.shapes)}"
        )
    # Read all values before assigning the first, because reading may fail.
    values = {name: stored.read(name) for name in selected}
    for name, variable in selected.items():
        variable.assign(values[name])
    if zero_init_logits_layer and model.supervised_head is not None:
        for variable in model.supervised_head.variables:
            variable.assign(tf.zeros_like(tf.convert_to_tensor(variable)))
    return RestoreReport(list(selected), skipped, missing)


def _unknown(stored: Iterable[str], names: Collection[str], schema: str | None) -> list[str]:
    """Lists the stored variables of a part that the model has, but without such a variable.

    A deeper network has every variable of a shallower one, so restoring only what the model has
    would load a ResNet-34 into a ResNet-18.
    """
    parts = {name.split("/")[0] for name in names} - {SUPERVISED_HEAD.rstrip("/")}
    return [
        name
        for name in stored
        if name not in names and name.split("/")[0] in parts and re.match(schema or "", name)
    ]


def read_weights(path: str) -> dict[str, np.ndarray]:
    """Reads all variables of the model from a file of weights.

    Returns:
      {our path: value}.

    Raises:
      ConfigError: there is no such file, or its variables have unknown names.
    """
    stored = open_weights(path)
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
