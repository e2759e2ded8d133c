"""Checkpoints: what is in them, how they are saved, and in which order a run is restored.

Restore order:
1. the latest checkpoint in model_dir: weights, optimizer and step, so that the run goes on;
2. else --checkpoint: weights only (`restore_weights`), after which zero_init_logits_layer zeroes
   the supervised head;
3. else the fresh initialisation stands.

A checkpoint's keys are our own variable paths (model/base_model/stem/conv/kernel,
optimizer/momentum/..., step), so that both Kerases read each other's.

Of several workers only the chief writes, from its first replica's variables; all of them read.
"""

import dataclasses
import os
import re
import sys

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from tf_simclr import compat
from tf_simclr.config import ConfigError, one_line
from tf_simclr.models.simclr import SimCLR
from tf_simclr.optim import policy
from tf_simclr.training import official, workers

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
# What TensorFlow's readers raise on files that are cut short or spoilt.
READ_ERRORS = (tf.errors.OpError, RuntimeError, ValueError, IndexError)
SUPERVISED_HEAD = "head_supervised/"


def variable_tree(variables: dict) -> dict:
    """{"a/b/c": variable} as nested dictionaries {"a": {"b": {"c": tf.Variable}}}."""
    tree = {}
    for path, variable in variables.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = compat.tf_variable(variable)
    return tree


class NotSaved(Exception):
    """A checkpoint could not be written."""


class Checkpointer:
    """Saves a run to its model_dir and takes it up again.

    Attributes:
      directory: where the checkpoints lie, as ckpt-STEP.
    """

    def __init__(
        self,
        model: SimCLR,
        optimizer,
        directory: str,
        *,
        max_to_keep: int,
        strategy: tf.distribute.Strategy | None = None,
    ):
        """Looks at what is there.

        Args:
          max_to_keep: older checkpoints are deleted.
          strategy: under which model and optimizer were made; None for the current one.
        """
        self.directory = directory
        self._model = model
        self._optimizer = optimizer
        self._strategy = strategy or tf.distribute.get_strategy()
        self._unreadable = set()
        # Keras 2 counts in int64 and Keras 3 in int32: the file has one type.
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False)
        variables = {f"model/{path}": v for path, v in model.variables_by_path().items()}
        for slot, slots in compat.optimizer_slots(optimizer).items():
            for path, variable in zip(policy.groups(model), slots, strict=True):
                variables[f"optimizer/{slot}/{path}"] = variable
        # What is restored goes to all replicas; what is saved comes from one.
        self._checkpoint = tf.train.Checkpoint(step=self._step, **variable_tree(variables))
        local = {path: workers.local_variable(v) for path, v in variables.items()}
        self._manager = tf.train.CheckpointManager(
            tf.train.Checkpoint(step=self._step, **variable_tree(local)),
            directory,
            max_to_keep=max_to_keep,
            checkpoint_name="ckpt",
        )
        self._latest = self._manager.latest_checkpoint

    @property
    def step(self) -> int:
        """Steps that the optimizer has taken."""
        return int(self._optimizer.iterations.numpy())

    @property
    def latest(self) -> str | None:
        """Prefix of the newest checkpoint, or None."""
        return self._latest

    def save(self) -> str:
        """Writes ckpt-STEP (unless it is there already) and returns its prefix.

        All workers must call it. Statistics of batch normalisation that each replica keeps for
        itself (global_bn=False) become their mean, on the replicas too, as the official code saves
        them: a mean of moving averages is the moving average of the means.

        Raises:
          NotSaved: the file system refuses, e.g. because it is full; earlier checkpoints stay.
        """
        prefix = os.path.join(self.directory, f"ckpt-{self.step}")
        if self.latest == prefix and prefix not in self._unreadable:
            return prefix
        workers.average_over_replicas(self._strategy, self._model.own_statistics())
        if workers.is_chief(self._strategy):
            self._write(prefix)
        self._latest = prefix
        return prefix

    def _write(self, prefix: str):
        self._step.assign(self.step)
        try:
            self._manager.save(checkpoint_number=self.step)
        except (tf.errors.OpError, OSError) as error:
            for leftover in tf.io.gfile.glob(f"{prefix}[._]*"):
                remove = tf.io.gfile.rmtree if tf.io.gfile.isdir(leftover) else tf.io.gfile.remove
                remove(leftover)
            raise NotSaved(
                f"model_dir {self.directory!r}: ckpt-{self.step} cannot be written "
                f"({one_line(error)}); the last good checkpoint is {self.latest or 'none'}"
            ) from error

    def restore_latest(self) -> str | None:
        """Restores the newest checkpoint that can be read and returns its prefix; None if none is.

        What a killed process left of an unfinished checkpoint is removed.

        Raises:
          ConfigError: there are checkpoints, and not one can be read.
        """
        if workers.is_chief(self._strategy):
            for leftover in tf.io.gfile.glob(os.path.join(self.directory, "ckpt-*_temp*")):
                tf.io.gfile.rmtree(leftover)
        prefixes = list(reversed(self._manager.checkpoints))
        for prefix in prefixes:
            try:
                self.restore(prefix)
                return prefix
            except READ_ERRORS as error:
                self._unreadable.add(prefix)
                print(f"{prefix} cannot be read ({one_line(error)}): trying the one before",
                      file=sys.stderr)  # fmt: skip
        if prefixes:
            raise ConfigError(
                f"model_dir {self.directory!r}: none of its {len(prefixes)} checkpoints can be "
                "read; name another model_dir, or delete them to begin again"
            )
        return None

    def check_latest(self):
        """Raises ConfigError where the newest checkpoint is that of another model or optimizer."""
        try:
            there = _shapes(self.latest) if self.latest else None
        except READ_ERRORS:
            return  # restore_latest says so and takes an earlier one
        if there is None:
            return
        here = {
            path: tuple(variable.shape)
            for path, variable in self._model.variables_by_path().items()
        }
        if difference := _first_difference(there, here):
            raise ConfigError(
                f"model_dir {self.directory!r} holds a checkpoint of another model ({difference}): "
                "name another model_dir, or give the model flags that it was trained with"
            )
        slots = {
            name.split("/")[1]
            for name, _ in tf.train.list_variables(self.latest)
            if name.startswith("optimizer/")
        }
        if slots != set(compat.optimizer_slots(self._optimizer)):
            raise ConfigError(
                f"model_dir {self.directory!r} holds a checkpoint of another optimizer: name "
                "another model_dir, or give the optimizer that it was trained with"
            )

    def restore(self, prefix: str, *, weights_only: bool = False):
        """Restores one of this run's own checkpoints, if asked to without the optimizer's slots."""
        if weights_only:
            wanted = tf.train.Checkpoint(step=self._step, model=self._checkpoint.model)
        else:
            wanted = self._checkpoint
        status = wanted.restore(prefix)
        status.assert_existing_objects_matched()
        status.expect_partial()
        self._optimizer.iterations.assign(
            tf.cast(self._step, self._optimizer.iterations.dtype)
        )


@dataclasses.dataclass(frozen=True)
class RestoreReport:
    """Paths of the variables that restore_weights took, left out, and did not find."""

    restored: list[str]
    skipped: list[str]
    missing: list[str]

    def __str__(self):
        rows = [f"{len(self.restored)} variables restored"]
        for name, paths in (("left out", self.skipped), ("not in the checkpoint", self.missing)):
            if paths:
                parts = sorted({path.split("/")[0] for path in paths})
                rows.append(f"{len(paths)} {name} ({', '.join(parts)})")
        return "; ".join(rows)


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
    values = read_weights(path)
    chosen, skipped, missing = {}, [], []
    for name, variable in model.variables_by_path().items():
        supervised = name.startswith(SUPERVISED_HEAD)
        if variable_schema is not None and not re.match(variable_schema, name):
            skipped.append(name)
        elif supervised and zero_init_logits_layer:
            skipped.append(name)
        elif name not in values:
            missing.append(name)
        elif values[name].shape != tuple(variable.shape):
            hint = (
                "leave the head out with --zero_init_logits_layer or "
                "--variable_schema='(?!head_supervised)'"
                if supervised
                else "give the model flags that it was trained with"
            )
            raise ConfigError(
                f"checkpoint {path!r}: {name} has shape {values[name].shape} there and "
                f"{tuple(variable.shape)} here; {hint}"
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
    for name, variable in chosen.items():
        variable.assign(values[name])
    if zero_init_logits_layer and model.supervised_head is not None:
        for variable in model.supervised_head.variables:
            variable.assign(tf.zeros_like(tf.convert_to_tensor(variable)))
    return RestoreReport(list(chosen), skipped, missing)


def read_weights(path: str) -> dict[str, np.ndarray]:
    """{our path: value} of the model's variables in a checkpoint or SavedModel.

    Raises:
      ConfigError: there is none, or its variables have unknown names.
    """
    prefix = find(path)
    try:
        names = [name for name, _ in tf.train.list_variables(prefix)]
        if official.is_official(names):
            return official.read(prefix)
        reader = tf.train.load_checkpoint(prefix)
        found = {name: reader.get_tensor(key) for name, key in _model_keys(reader).items()}
    except READ_ERRORS as error:
        raise ConfigError(
            f"checkpoint {path!r} cannot be read ({one_line(error)}): give another"
        ) from error
    if not found:
        raise ConfigError(
            f"checkpoint {path!r} is neither one of ours nor one of the official TF2 code: its "
            f"variables are called {', '.join(names[:3])}"
        )
    return found


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


def _model_keys(reader) -> dict[str, str]:
    """{our path: key in the file} of the model's variables.

    A SavedModel stores a variable under the shortest of its names, so the object graph is walked
    from the attribute `model` down, which is the same in checkpoints and SavedModels.
    """
    if not reader.has_tensor(OBJECT_GRAPH):
        return {}
    graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(
        reader.get_tensor(OBJECT_GRAPH)
    )
    keys = {}

    def walk(node_id: int, path: str):
        node = graph.nodes[node_id]
        for attribute in node.attributes:
            keys[path] = attribute.checkpoint_key
        for child in node.children:
            walk(child.node_id, f"{path}/{child.local_name}" if path else child.local_name)

    for child in graph.nodes[0].children:
        if child.local_name == "model":
            walk(child.node_id, "")
    return keys


def _shapes(prefix: str) -> dict[str, tuple]:
    reader = tf.train.load_checkpoint(prefix)
    shapes = reader.get_variable_to_shape_map()
    return {path: tuple(shapes[key]) for path, key in _model_keys(reader).items()}


def _first_difference(there: dict[str, tuple], here: dict[str, tuple]) -> str | None:
    for path in sorted(here.keys() | there.keys()):
        if there.get(path) != here.get(path):
            return f"{path}: {there.get(path, 'absent')} there, {here.get(path, 'absent')} here"
    return None
