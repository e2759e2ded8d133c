"""A run's own checkpoints: what is in them, how they are saved, and in which order it is restored.

Restore order:
1. the latest checkpoint in model_dir: weights, optimizer and step, so that the run goes on;
2. else --checkpoint: weights only (`weights.restore_weights`), after which zero_init_logits_layer
   zeroes the supervised head;
3. else the fresh initialisation stands.

A checkpoint's keys are our own variable paths (model/base_model/stem/conv/kernel,
optimizer/momentum/..., step, examples), so that both Kerases read each other's, and all precisions.

Of several workers only the chief writes, from its first replica's variables; all of them read.
"""

import os
import sys
import time

import tensorflow as tf

from tf_simclr import compat, files
from tf_simclr.checkpoints.examples_seen import ExamplesSeen
from tf_simclr.checkpoints.weights import READ_ERRORS, read_shapes
from tf_simclr.devices import workers
from tf_simclr.errors import ConfigError, one_line
from tf_simclr.models.simclr import SimCLR
from tf_simclr.optim import policy
from tf_simclr.optim.loss_scale import LossScale

LOSS_SCALE, EXAMPLES = "loss_scale", "examples"
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"  # which TensorFlow appends to a variable's path


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


def wait_for_first(model_dir: str, *, timeout: float | None):
    """Returns when there is a checkpoint in model_dir.

    Args:
      timeout: in seconds; None to wait for ever.

    Raises:
      ConfigError: none came in time.
    """
    began = time.monotonic()
    for _ in tf.train.checkpoints_iterator(model_dir, min_interval_secs=1, timeout=timeout):
        return
    raise none_came(model_dir, time.monotonic() - began)


def none_came(model_dir: str, seconds: float) -> ConfigError:
    """The error of a wait for a checkpoint."""
    return ConfigError(
        f"model_dir {model_dir!r} got no checkpoint in {seconds:.0f} s (eval_timeout): train there "
        "first"
    )


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
        loss_scale: LossScale | None = None,
        seen: ExamplesSeen | None = None,
    ):
        """Looks at what is there.

        Args:
          max_to_keep: older checkpoints are deleted.
          strategy: under which model and optimizer were made; None for the current one.
          loss_scale: of float16. A checkpoint of another precision has none: it is then new.
          seen: the examples that the run has seen, to be saved and restored with the step.

        Raises:
          ConfigError: the list of checkpoints names one of another directory.
        """
        _check_list(directory)
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
        self._seen = seen
        # What a checkpoint of an earlier version or of another precision lacks.
        optional = {EXAMPLES: seen.variable} if seen else {}
        scale = loss_scale.variables if loss_scale else {}
        optional |= {f"{LOSS_SCALE}/{name}": v for name, v in scale.items()}
        # What is restored goes to all replicas; what is saved comes from one.
        self._variables, self._optional = variables, optional
        local = {path: workers.local_variable(v) for path, v in (variables | optional).items()}
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
        workers.average_over_replicas(self._strategy, self._model.per_replica_statistics())
        if workers.is_chief(self._strategy):
            self._write(prefix)
        self._latest = prefix
        return prefix

    def _write(self, prefix: str):
        self._step.assign(self.step)
        if self._seen:
            self._seen.store(self.step)
        try:
            self._manager.save(checkpoint_number=self.step)
        except (tf.errors.OpError, OSError) as error:
            for leftover in tf.io.gfile.glob(f"{prefix}[._]*"):
                files.remove(leftover)
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
                files.remove(leftover)
        prefixes = list(reversed(self._manager.checkpoints))
        latest = self._manager.latest_checkpoint
        if latest and latest not in prefixes:
            # The manager leaves out what a `checkpoint` file written by hand names.
            prefixes.insert(0, latest)
        for prefix in prefixes:
            try:
                self.restore(prefix)
                return prefix
            except READ_ERRORS as error:
                self._unreadable.add(prefix)
                print(
                    f"{prefix} cannot be read ({one_line(error)}): trying the one before",
                    file=sys.stderr,
                )
        if prefixes:
            raise ConfigError(
                f"model_dir {self.directory!r}: none of its {len(prefixes)} checkpoints can be "
                "read; name another model_dir, or delete them to begin again"
            )
        return None

    def check_latest(self):
        """Raises ConfigError where the newest checkpoint is that of another model or optimizer."""
        try:
            there = read_shapes(self.latest) if self.latest else None
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
        """Restores one of this run's own checkpoints, if asked to without the optimizer's slots.

        Raises:
          READ_ERRORS: the file is cut short or spoilt, or a variable has another shape in it.
        """
        shapes = {
            key.removesuffix(SUFFIX): tuple(shape) for key, shape in tf.train.list_variables(prefix)
        }
        wanted = {
            path: variable
            for path, variable in self._variables.items()
            if path.startswith("model/") or not weights_only
        }
        for path, variable in self._optional.items():
            if path in shapes and (path == EXAMPLES or not weights_only):
                wanted[path] = variable
        for path, variable in {"step": self._step, **wanted}.items():
            there = shapes.get(path, "absent")
            if there != tuple(variable.shape):  # before memory is taken for it
                raise ValueError(f"{path} has shape {there}, not {tuple(variable.shape)}")
        status = tf.train.Checkpoint(step=self._step, **variable_tree(wanted)).restore(prefix)
        status.assert_existing_objects_matched()
        status.expect_partial()
        self._optimizer.iterations.assign(tf.cast(self._step, self._optimizer.iterations.dtype))
        if self._seen:
            self._seen.restored(self.step, from_variable=EXAMPLES in wanted)


def _check_list(directory: str):
    """Refuses a list of checkpoints (the file `checkpoint`) that leads out of its directory.

    Old checkpoints are deleted by this list.

    Raises:
      ConfigError: it does.
    """
    state = tf.train.get_checkpoint_state(directory)
    for prefix in state.all_model_checkpoint_paths if state else ():
        folders = os.path.dirname(prefix), directory.rstrip("/")
        if not files.is_url(directory):
            folders = tuple(os.path.realpath(folder) for folder in folders)
        if folders[0] != folders[1]:
            raise ConfigError(
                f"model_dir {directory!r}: its file `checkpoint` names {one_line(repr(prefix))}, "
                "which is not in that directory: remove the line from the file"
            )


def _first_difference(there: dict[str, tuple], here: dict[str, tuple]) -> str | None:
    for path in sorted(here.keys() | there.keys()):
        if there.get(path) != here.get(path):
            return f"{path}: {there.get(path, 'absent')} there, {here.get(path, 'absent')} here"
    return None
