"""Loads a trained model for mode=predict, from a checkpoint or a SavedModel.

The weights of our own checkpoints and SavedModels are loaded into our own model. The graph in a
SavedModel is a program that can read and write files. It is loaded only if the user names the
SavedModel and the settings of its run are unknown.
"""

import os
import sys
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tf_simclr.checkpoints import about_file, weights
from tf_simclr.checkpoints.formats import saved_model
from tf_simclr.config import Config, saved_settings
from tf_simclr.data.sources.image_range import ImageRange
from tf_simclr.errors import ConfigError
from tf_simclr.models import from_config


class TrainedModel(NamedTuple):
    """A model in inference mode and its metadata.

    Attributes:
      endpoints: function from images, float32 (n, s, s, 3) in [0, 1], to {endpoint: (n, width)}.
      image_size: side s of the images, in pixels.
      class_names: names of the classes in the order of the logits; None if they are unknown.
      image_range: values of 16-bit images that become black and white; None if unknown.
    """

    endpoints: Callable[[tf.Tensor], dict[str, tf.Tensor]]
    image_size: int
    class_names: tuple[str, ...] | None
    image_range: ImageRange | None

    def width(self, endpoint: str) -> int | None:
        """Returns the width of an endpoint; None if the model has no endpoint of that name."""
        images = tf.TensorSpec((None, self.image_size, self.image_size, 3), tf.float32)
        outputs = tf.function(self.endpoints).get_concrete_function(images).structured_outputs
        return outputs[endpoint].shape[-1] if endpoint in outputs else None


def find_prefix(path: str) -> str | None:
    """Finds the prefix of the variables at a path (`weights.find`).

    Returns:
      None for a SavedModel that has a graph but no variables.

    Raises:
      ConfigError: there is no checkpoint and no SavedModel.
    """
    try:
        return weights.find(path)
    except ConfigError:
        if saved_model.is_saved_model(path):
            return None
        raise


def open_model(config: Config, path: str, prefix: str | None) -> TrainedModel:
    """Opens a checkpoint or SavedModel. Warns if the graph of a SavedModel must be loaded.

    Args:
      config: checked settings. The model must have been trained with the same model settings.
      path: the checkpoint, model_dir or SavedModel that the user named.
      prefix: the prefix of its variables, from `find_prefix`.

    Raises:
      ConfigError: the file is damaged, or it holds another model.
    """
    if prefix and prefix != os.path.join(path, "variables", "variables"):
        return _open_checkpoint(config, prefix)
    if prefix and (model := _open_saved_variables(config, path)):
        return model
    print(
        f"{path} is a SavedModel without usable settings beside it. Its own graph will run and can "
        "read and write files. Open only what you trust.",
        file=sys.stderr,
    )
    loaded = saved_model.load(path, flag="checkpoint")
    return _with_about(lambda images: loaded(images, trainable=False), config, path)


def _open_checkpoint(config: Config, prefix: str) -> TrainedModel:
    num_classes = weights.open_weights(prefix).num_classes
    model = from_config.make_model(config, num_classes)
    weights.restore_weights(model, prefix)
    about = about_file.read_about(os.path.dirname(prefix))
    names = about.class_names
    if num_classes is None or names is None or len(names) != num_classes:
        names = None
    return TrainedModel(
        lambda images: model(images, training=False),
        config.data.image_size,
        names,
        about.image_range,
    )


def _open_saved_variables(config: Config, path: str) -> TrainedModel | None:
    """Builds our own model with a SavedModel's variables. Does not load the SavedModel's graph.

    Returns:
      None if the settings of its run are unknown or do not fit its variables.
    """
    settings_file = saved_settings.find_beside(path)
    if not settings_file:
        return None
    run_config = Config().replace(**saved_settings.read(settings_file))
    if run_config.model != config.model:
        return None
    # SavedModels are exported for the run's image size, in float32.
    config = config.replace(image_size=run_config.data.image_size, precision="float32")
    try:
        stored = weights.open_weights(path)
        model = from_config.make_model(config, stored.num_classes)
        report = weights.restore_weights(model, path)
    except ConfigError:
        return None
    if report.missing:
        return None
    return _with_about(lambda images: model(images, training=False), config, path)


def _with_about(endpoints: Callable, config: Config, path: str) -> TrainedModel:
    """Adds the metadata from a SavedModel's about.json. Falls back to the settings."""
    about = saved_model.read_about(path)
    image_size = about.image_size or config.data.image_size
    return TrainedModel(endpoints, image_size, about.class_names, about.image_range)
