"""SavedModels: the trained model as a function from images to endpoints, for TF Hub and serving."""

import json
import os
import re
import tempfile

import tensorflow as tf

from tf_simclr import compat, files
from tf_simclr.checkpoints import run_dir
from tf_simclr.checkpoints.run_checkpoints import variable_tree
from tf_simclr.errors import ConfigError, one_line
from tf_simclr.models.simclr import SimCLR

ASSETS = "assets"  # where TensorFlow puts a SavedModel's files
IMAGES = tf.TensorSpec((None, None, None, 3), tf.float32, name="images")
MOVING_AVERAGES = ("moving_mean", "moving_variance")


def is_saved_model(path: str) -> bool:
    """Whether a path is the directory of a SavedModel."""
    return tf.io.gfile.exists(os.path.join(path, "saved_model.pb"))


def load(path: str, *, flag: str):
    """A SavedModel, ours or of the official code, to be called as f(images, trainable=False).

    Args:
      flag: name of the setting that holds the path, for the message.

    Raises:
      ConfigError: it cannot be loaded.
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


def read_about(path: str) -> dict:
    """Reads what a SavedModel tells of itself (`run_dir.read_about`)."""
    return run_dir.read_about(os.path.join(path, ASSETS))


def exportable(model: SimCLR) -> tf.train.Checkpoint:
    """The object whose SavedModel we write.

    Loaded by tf.saved_model.load it is called as f(images, trainable=False), images (b, h, w, 3)
    float32 in [0, 1] of any size, and returns the endpoints by name. trainable=True normalises by
    the batch (for fine-tuning); it never blurs. hub.KerasLayer takes it too: it passes `training`,
    and its output_key chooses an endpoint. The signature serving_default is inference.
    """
    named = model.variables_by_path()
    # The same tree as in our checkpoints, so that --checkpoint takes a SavedModel. The Keras model
    # itself stays out: a SavedModel must load without this package.
    module = tf.train.Checkpoint(model=variable_tree(named))

    @tf.function(autograph=False)
    def endpoints(images, training):
        return model(images, training=training)

    @tf.function(autograph=False)
    def call(images, trainable=False, training=None):
        # A function of its own, so that the network is traced twice and not once a signature.
        return endpoints(images, trainable if training is None else training)

    call.get_concrete_function(IMAGES, trainable=True)
    for training in (None, False, True):
        call.get_concrete_function(IMAGES, training=training)
    module.__call__ = call
    # What hub.KerasLayer looks for.
    module.variables = [compat.tf_variable(v) for v in named.values()]
    module.trainable_variables = [
        compat.tf_variable(v) for path, v in named.items() if not path.endswith(MOVING_AVERAGES)
    ]
    module.regularization_losses = []
    return module


def export(
    model: SimCLR, directory: str, step: int, *, keep: int, about: dict | None = None
) -> str:
    """Writes directory/STEP (`write`) of a model that is exported once."""
    return write(exportable(model), directory, step, keep=keep, about=about)


def write(
    module: tf.train.Checkpoint, directory: str, step: int, *, keep: int, about: dict | None = None
) -> str:
    """Writes directory/STEP and deletes all but the `keep` newest SavedModels there.

    The SavedModel appears under its name only when it is complete.

    Args:
      module: of `exportable`. It can be written again when its variables have other values.
      about: goes into its assets as about.json (`run_dir.write_about`).

    Returns:
      Its path.
    """
    if about is not None:
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, run_dir.ABOUT), "w") as file:
                json.dump(about, file, indent=2)
            module.about = tf.saved_model.Asset(file.name)
            return _save(module, directory, step, keep)
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
    exported = [
        int(name.rstrip("/"))
        for name in tf.io.gfile.listdir(directory)
        if re.fullmatch(r"\d+/?", name)
    ]
    for old in sorted(exported)[:-keep]:
        files.remove(os.path.join(directory, str(old)))
    return path
