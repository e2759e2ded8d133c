"""SavedModels: the trained model as a function from images to endpoints, for TF Hub and serving."""

import os
import re

import tensorflow as tf

from tf_simclr import compat
from tf_simclr.models.simclr import SimCLR
from tf_simclr.training.checkpoint import variable_tree

IMAGES = tf.TensorSpec((None, None, None, 3), tf.float32, name="images")
MOVING_AVERAGES = ("moving_mean", "moving_variance")


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

    @tf.function
    def call(images, trainable=False, training=None):
        return model(images, training=trainable if training is None else training)

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


def export(model: SimCLR, directory: str, step: int, *, keep: int) -> str:
    """Writes directory/STEP and deletes all but the `keep` newest SavedModels there.

    The SavedModel appears under its name only when it is complete.

    Returns:
      Its path.
    """
    module = exportable(model)
    path = os.path.join(directory, str(step))
    unfinished = path + ".unfinished"
    for leftover in (unfinished, path):
        if tf.io.gfile.exists(leftover):
            tf.io.gfile.rmtree(leftover)
    inference = module.__call__.get_concrete_function(IMAGES)
    tf.saved_model.save(module, unfinished, signatures={"serving_default": inference})
    tf.io.gfile.rename(unfinished, path)
    exported = [int(name.rstrip("/")) for name in tf.io.gfile.listdir(directory)
                if re.fullmatch(r"\d+/?", name)]  # fmt: skip
    for old in sorted(exported)[:-keep]:
        tf.io.gfile.rmtree(os.path.join(directory, str(old)))
    return path
