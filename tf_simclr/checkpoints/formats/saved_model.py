"""Writes and loads SavedModels: functions from images to endpoints, for TF Hub and serving."""

import json
import os
import re
import tempfile
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_simclr import compat, files
from tf_simclr.checkpoints import about_file
from tf_simclr.checkpoints.about_file import About
from tf_simclr.checkpoints.formats.object_graph import variable_tree
from tf_simclr.errors import ConfigError, one_line
from tf_simclr.models.simclr import SimCLR

ASSETS = "assets"  # the folder for extra files in a SavedModel
IMAGES = tf.TensorSpec((None, None, None, 3), tf.float32, name="images")
# Code for the model card, which is in the directory of the SavedModel.
LOADING = """
```python
import tensorflow as tf

encoder = tf.saved_model.load("DIRECTORY")  # the directory of this file
endpoints = encoder(images, trainable=False)  # images: float32 (n, h, w, 3) in [0, 1]
embeddings = endpoints["final_avg_pool"]
```
"""
MOVING_AVERAGES = ("moving_mean", "moving_variance")


def is_saved_model(path: str) -> bool:
    """Returns whether a path is the directory of a SavedModel."""
    return tf.io.gfile.exists(os.path.join(path, "saved_model.pb"))


def load(path: str, *, flag: str) -> Callable:
    """Loads one of our SavedModels or one of the official code.

    Args:
      path: directory of the SavedModel.
      flag: name of the setting that holds the path, for the error message.

    Returns:
      A function to call as f(images, trainable=False).

    Raises:
      ConfigError: the SavedModel cannot be loaded or cannot be called.
    """
    try:
        loaded = tf.saved_model.load(path)
    except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
        raise ConfigError(
            f"{flag} {path!r} cannot be loaded ({one_line(error)}): give another SavedModel"
        ) from error
    if not callable(loaded):
        raise ConfigError(
            f"{flag} {path!r} is not a SavedModel that run.py or the official code "
            "has exported: it cannot be called"
        )
    return loaded


def read_about(path: str) -> About:
    """Reads the about.json of a SavedModel (`about_file.read_about`)."""
    return about_file.read_about(os.path.join(path, ASSETS))


def exportable(model: SimCLR) -> tf.train.Checkpoint:
    """Builds the object that `write` writes as a SavedModel.

    tf.saved_model.load returns a function f(images, trainable=False) that returns the endpoints by
    name. The images are float32 (b, h, w, 3) in [0, 1], of any size. trainable=True is for
    fine-tuning: it normalizes by the statistics of the batch. Neither mode blurs the images.
    hub.KerasLayer can also load the SavedModel: it passes `training`, and its output_key chooses an
    endpoint. The signature serving_default runs inference.
    """
    variables = model.variables_by_path()
    # Use the same tree as our checkpoints, so that --checkpoint also accepts a SavedModel. Leave
    # out the Keras model itself, because a SavedModel must load without this package.
    module = tf.train.Checkpoint(model=variable_tree(variables))

    @tf.function(autograph=False)
    def endpoints(images, training):
        return model(images, training=training)

    @tf.function(autograph=False)
    def call(images, trainable=False, training=None):
        # `endpoints` is a separate function so that the network is traced only twice, once for each
        # value of `training`, and not once for each of the signatures below.
        return endpoints(images, trainable if training is None else training)

    call.get_concrete_function(IMAGES, trainable=True)
    for training in (None, False, True):
        call.get_concrete_function(IMAGES, training=training)
    module.__call__ = call
    # hub.KerasLayer looks for these three attributes.
    module.variables = [compat.tf_variable(v) for v in variables.values()]
    module.trainable_variables = [
        compat.tf_variable(v) for path, v in variables.items() if not path.endswith(MOVING_AVERAGES)
    ]
    module.regularization_losses = []
    return module


def export(
    model: SimCLR, directory: str, step: int, *, keep: int, about: dict[str, Any] | None = None
) -> str:
    """Writes directory/STEP for a model that is exported only once (`write`)."""
    return write(exportable(model), directory, step, keep=keep, about=about)


def write(
    module: tf.train.Checkpoint,
    directory: str,
    step: int,
    *,
    keep: int,
    about: dict[str, Any] | None = None,
) -> str:
    """Writes directory/STEP, then deletes all but the `keep` newest SavedModels there.

    The SavedModel gets its name only when it is complete.

    Args:
      module: the object from `exportable`. It can be written again after its variables change.
      directory: directory of the SavedModels.
      step: training step, the name of the new SavedModel.
      keep: number of SavedModels to keep.
      about: content of about.json in the assets (`about_file.write_about`).

    Returns:
      The path of the SavedModel.
    """
    if about is None:
        return _save(module, directory, step, keep)
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, about_file.ABOUT), "w") as file:
            json.dump(about, file, indent=2)
        module.about = tf.saved_model.Asset(file.name)
        return _save(module, directory, step, keep)


def _save(module: tf.train.Checkpoint, directory: str, step: int, keep: int) -> str:
    path = os.path.join(directory, str(step))
    unfinished = path + ".unfinished"
    for leftover in (unfinished, path):
        if tf.io.gfile.exists(leftover):
            files.remove(leftover)
    inference = module.__call__.get_concrete_function(IMAGES)
    tf.saved_model.save(module, unfinished, signatures={"serving_default": inference})
    tf.io.gfile.rename(unfinished, path)
    for old_step in steps_in(directory)[:-keep]:
        files.remove(os.path.join(directory, str(old_step)))
    return path


def steps_in(directory: str) -> list[int]:
    """Lists the steps of the SavedModels in a directory, the oldest first."""
    names = (name.rstrip("/") for name in tf.io.gfile.listdir(directory))
    return sorted(int(name) for name in names if re.fullmatch(r"\d+", name))
