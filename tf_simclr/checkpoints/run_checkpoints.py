"""Saves and restores the checkpoints of a run.

A run starts from the first of these that exists:
1. the latest checkpoint in model_dir: weights, optimizer and step, so the run resumes;
2. --checkpoint: weights only (`weights.restore_weights`); then zero_init_logits_layer zeroes the
   supervised head;
3. the random initialization.

The keys of a checkpoint are our own variable paths (model/base_model/stem/conv/kernel,
optimizer/momentum/..., step, examples). They do not depend on the Keras version or on the
precision, so a run can be resumed with another one.

Only the chief writes, and it writes the variables of its first replica. All workers read.
"""

import os
import sys
from typing import Any

import tensorflow as tf

from tf_simclr import compat, files
from tf_simclr.checkpoints import compatibility
from tf_simclr.checkpoints.examples_seen import ExamplesSeen
from tf_simclr.checkpoints.formats.tensorflow.object_graph import SUFFIX, variable_tree
from tf_simclr.checkpoints.weights import READ_ERRORS
from tf_simclr.devices import workers
from tf_simclr.errors import ConfigError, one_line
from tf_simclr.models.simclr import SimCLR
from tf_simclr.optim import policy
from tf_simclr.optim.loss_scale import LossScale

LOSS_SCALE, EXAMPLES = "loss_scale", "examples"


class NotSaved(Exception):
    """A checkpoint could not be written."""


class Checkpointer:
    """Saves a run to its model_dir and restores it from there.

    Attributes:
      directory: directory of the checkpoints ckpt-STEP.
    """

    def __init__(
        self,
        model: SimCLR,
        optimizer: Any,
        directory: str,
        *,
        max_to_keep: int,
        strategy: tf.distribute.Strategy | None = None,
        loss_scale: LossScale | None = None,
        examples_seen: ExamplesSeen | None = None,
    ):
        """Finds the checkpoints in the directory. Restores nothing.

        Args:
          model: the model of the run.
          optimizer: its Keras optimizer, already built.
          directory: directory of the checkpoints.
          max_to_keep: number of checkpoints to keep. Older ones are deleted.
          strategy: the strategy under which model and optimizer were created; None for the current
            one.
          loss_scale: loss scale, used with float16 only. A checkpoint of another precision has
            none; the scale then keeps its initial value.
          examples_seen: number of examples seen, saved and restored with the step.

        Raises:
          ConfigError: the list of checkpoints names one in another directory.
        """
        compatibility.check_list(directory)
        self.directory = directory
        self._model = model
        self._optimizer = optimizer
        self._strategy = strategy or tf.distribute.get_strategy()
        self._examples_seen = examples_seen
        self._current: str | None = None  # the checkpoint that equals the run's variables
        # Keras 2 counts steps in int64 and Keras 3 in int32. The file has one type.
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._variables = _model_and_slots(model, optimizer)
        # A checkpoint of an earlier version or of another precision lacks these.
        self._optional = {EXAMPLES: examples_seen.variable} if examples_seen else {}
        if loss_scale:
            self._optional |= {f"{LOSS_SCALE}/{k}": v for k, v in loss_scale.variables.items()}
        # Restoring sets the variables of all replicas. Saving reads those of one replica.
        first_replica = {
            path: workers.local_variable(variable)
            for path, variable in (self._variables | self._optional).items()
        }
        self._manager = tf.train.CheckpointManager(
            tf.train.Checkpoint(step=self._step, **variable_tree(first_replica)),
            directory,
            max_to_keep=max_to_keep,
            checkpoint_name="ckpt",
        )
        self._latest: str | None = self._manager.latest_checkpoint

    @property
    def step(self) -> int:
        """Returns the number of steps that the optimizer has taken."""
        return int(self._optimizer.iterations.numpy())

    @property
    def latest(self) -> str | None:
        """Returns the prefix of the newest checkpoint, or None."""
        return self._latest

    def save(self) -> str:
        """Writes ckpt-STEP and returns its prefix. All workers must call it.

        It writes nothing if this process has just saved or restored that checkpoint.

        With global_bn=False, each replica has its own batch normalization statistics. They are
        first averaged over the replicas, in the model and in the checkpoint, as in the official
        code. Training can continue from the mean, because averaging commutes with the moving
        average.

        Raises:
          NotSaved: the file cannot be written, for example because the disk is full. Earlier
            checkpoints remain.
        """
        prefix = os.path.join(self.directory, f"ckpt-{self.step}")
        if self._current == prefix:
            return prefix
        workers.average_over_replicas(self._strategy, self._model.per_replica_statistics())
        if workers.is_chief(self._strategy):
            self._write(prefix)
        self._latest = self._current = prefix
        return prefix

    def _write(self, prefix: str) -> None:
        self._step.assign(self.step)
        if self._examples_seen:
            self._examples_seen.store(self.step)
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
        """Restores the newest readable checkpoint. Deletes incomplete files of a killed process.

        Returns:
          The prefix of the checkpoint; None if there are no checkpoints.

        Raises:
          ConfigError: there are checkpoints, but none of them can be read.
        """
        if workers.is_chief(self._strategy):
            for leftover in tf.io.gfile.glob(os.path.join(self.directory, "ckpt-*_temp*")):
                files.remove(leftover)
        prefixes = list(reversed(self._manager.checkpoints))
        latest = self._manager.latest_checkpoint
        if latest and latest not in prefixes:
            # The manager does not list a checkpoint that a hand-edited file `checkpoint` names.
            prefixes.insert(0, latest)
        for prefix in prefixes:
            try:
                self.restore(prefix)
                return prefix
            except READ_ERRORS as error:
                print(
                    f"{prefix} cannot be read ({one_line(error)}): trying the one before",
                    file=sys.stderr,
                )
        if prefixes:
            raise ConfigError(
                f"model_dir {self.directory!r}: none of its {len(prefixes)} checkpoints can be "
                "read; use another model_dir, or delete them to start over"
            )
        return None

    def check_latest(self) -> None:
        """Checks that the newest checkpoint fits the model and the optimizer.

        Raises:
          ConfigError: it belongs to another model or another optimizer.
        """
        if self.latest:
            compatibility.check_same_run(
                self.latest, self._model, self._optimizer, model_dir=self.directory
            )

    def restore(self, prefix: str, *, weights_only: bool = False) -> None:
        """Restores a checkpoint of this run.

        Args:
          prefix: prefix of the checkpoint.
          weights_only: keep the optimizer's slots and the loss scale unchanged. The step and the
            number of examples are always restored.

        Raises:
          READ_ERRORS: the file is truncated or damaged, or a variable has another shape in it.
        """
        shapes = {
            key.removesuffix(SUFFIX): tuple(shape) for key, shape in tf.train.list_variables(prefix)
        }
        restored = {
            path: variable
            for path, variable in self._variables.items()
            if path.startswith("model/") or not weights_only
        }
        for path, variable in self._optional.items():
            if path in shapes and (path == EXAMPLES or not weights_only):
                restored[path] = variable
        # Compare shapes first, because reading allocates the size that the file claims.
        for path, variable in {"step": self._step, **restored}.items():
            stored_shape = shapes.get(path, "absent")
            if stored_shape != tuple(variable.shape):
                raise ValueError(f"{path} has shape {stored_shape}, not {tuple(variable.shape)}")
        checkpoint = tf.train.Checkpoint(step=self._step, **variable_tree(restored))
        status = checkpoint.restore(prefix)
        status.assert_existing_objects_matched()
        status.expect_partial()
        self._optimizer.iterations.assign(tf.cast(self._step, self._optimizer.iterations.dtype))
        if self._examples_seen:
            self._examples_seen.resume(self.step, from_variable=EXAMPLES in restored)
        self._current = None if weights_only else prefix


def _model_and_slots(model: SimCLR, optimizer: Any) -> dict[str, Any]:
    """Returns the variables of the model and of the optimizer's slots by their paths."""
    variables = {f"model/{path}": v for path, v in model.variables_by_path().items()}
    for slot, slot_variables in compat.optimizer_slots(optimizer).items():
        for path, variable in zip(policy.groups(model), slot_variables, strict=True):
            variables[f"optimizer/{slot}/{path}"] = variable
    return variables
