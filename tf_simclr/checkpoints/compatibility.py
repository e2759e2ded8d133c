"""Checks that the checkpoints in a model_dir belong to this run, before they are restored."""

import os
from typing import Any

import tensorflow as tf

from tf_simclr import compat, files
from tf_simclr.checkpoints.weights import READ_ERRORS, read_shapes
from tf_simclr.errors import ConfigError, one_line
from tf_simclr.models.simclr import SimCLR


def check_list(directory: str) -> None:
    """Rejects a list of checkpoints (the file `checkpoint`) that points outside its directory.

    TensorFlow deletes old checkpoints by this list, so an untrusted list could delete any file.

    Raises:
      ConfigError: the list names a checkpoint in another directory.
    """
    state = tf.train.get_checkpoint_state(directory)
    for prefix in state.all_model_checkpoint_paths if state else ():
        listed, expected = os.path.dirname(prefix), directory.rstrip("/")
        if not files.is_url(directory):
            listed, expected = os.path.realpath(listed), os.path.realpath(expected)
        if listed != expected:
            raise ConfigError(
                f"model_dir {directory!r}: its file `checkpoint` names {one_line(repr(prefix))}, "
                "which is not in that directory: remove the line from the file"
            )


def check_same_run(prefix: str, model: SimCLR, optimizer: Any, *, model_dir: str) -> None:
    """Rejects a checkpoint of another model or another optimizer.

    Accepts a file that cannot be read: restoring reports it and uses an earlier one.

    Args:
      prefix: prefix of a checkpoint in a model_dir.
      model: the model of this run.
      optimizer: the Keras optimizer of this run.
      model_dir: directory of the run, for the error message.

    Raises:
      ConfigError: the shape of a model variable differs, or the optimizer has other slots.
    """
    try:
        stored = read_shapes(prefix)
    except READ_ERRORS:
        return
    shapes = {path: tuple(variable.shape) for path, variable in model.variables_by_path().items()}
    if difference := _first_difference(stored, shapes):
        raise ConfigError(
            f"model_dir {model_dir!r} holds a checkpoint of another model ({difference}): "
            "use another model_dir, or give the model flags that it was trained with"
        )
    stored_slots = {
        name.split("/")[1]
        for name, _ in tf.train.list_variables(prefix)
        if name.startswith("optimizer/")
    }
    if stored_slots != set(compat.optimizer_slots(optimizer)):
        raise ConfigError(
            f"model_dir {model_dir!r} holds a checkpoint of another optimizer: use "
            "another model_dir, or give the optimizer that it was trained with"
        )


def _first_difference(stored: dict[str, tuple], shapes: dict[str, tuple]) -> str | None:
    for path in sorted(shapes.keys() | stored.keys()):
        stored_shape, shape = stored.get(path, "absent"), shapes.get(path, "absent")
        if stored_shape != shape:
            return f"{path}: {stored_shape} there, {shape} here"
    return None
