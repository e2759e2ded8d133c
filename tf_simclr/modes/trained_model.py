"""Loads a trained model for mode=predict, from any format of weights, ONNX or TFLite.

Weights are loaded into our own model, also those of a SavedModel. The graph in a SavedModel is a
program that can read and write files. It is loaded only if the user names the SavedModel and its
variables are not those of a network that this package can build.
"""

import os
import sys
from collections.abc import Callable, Collection
from typing import NamedTuple

import tensorflow as tf

from tf_simclr.checkpoints import (
    about_file,
    recognition,
    recognized_model,
    runnable_file,
    weights_file,
)
from tf_simclr.checkpoints.about_file import About
from tf_simclr.checkpoints.formats.runtimes.runner import Runner
from tf_simclr.checkpoints.formats.stored import SUPERVISED_HEAD, Stored
from tf_simclr.checkpoints.formats.tensorflow import saved_model, tf_checkpoint
from tf_simclr.config import Config, saved_settings
from tf_simclr.data.sources.image_range import ImageRange
from tf_simclr.errors import ConfigError
from tf_simclr.models.simclr import SimCLR


class TrainedModel(NamedTuple):
    """A model in inference mode and its metadata.

    Attributes:
      endpoints: function from images, float32 (n, s, s, 3) in [0, 1], to {endpoint: (n, width)}.
      image_size: side s of the images, in pixels.
      class_names: names of the classes in the order of the logits; None if they are unknown.
      image_range: values of 16-bit images that become black and white; None if unknown.
      note: what is assumed about its logits, a line for the user; None if nothing is.
    """

    endpoints: Callable[[tf.Tensor], dict[str, tf.Tensor]]
    image_size: int
    class_names: tuple[str, ...] | None
    image_range: ImageRange | None
    note: str | None = None

    def width(self, endpoint: str) -> int | None:
        """Returns the width of an endpoint; None if the model has no endpoint of that name."""
        images = tf.TensorSpec((None, self.image_size, self.image_size, 3), tf.float32)
        outputs = tf.function(self.endpoints).get_concrete_function(images).structured_outputs
        return outputs[endpoint].shape[-1] if endpoint in outputs else None


def find(path: str) -> str:
    """Finds the model that a path names.

    Returns:
      An ONNX or TFLite file, the weights that `weights_file.find` finds, or the directory of a
      SavedModel that has a graph but no variables.

    Raises:
      ConfigError: there is no model.
    """
    if runs_on_host(path):
        return path
    try:
        return weights_file.find(path)
    except ConfigError:
        if saved_model.is_saved_model(path):
            return path
        raise


def runs_on_host(found: str) -> bool:
    """Returns whether a model is an ONNX or TFLite file, which devices of TensorFlow cannot run."""
    return runnable_file.name_of(found) is not None


def open_model(
    config: Config, path: str, found: str, *, fixed: Collection[str] = ()
) -> TrainedModel:
    """Opens a model. Warns if the graph of a SavedModel must be loaded.

    Args:
      config: checked settings. Those that do not fit the weights change (`recognition.fit`).
      path: the path that the user named.
      found: what `find` has found there.
      fixed: names of the settings that must keep their values.

    Raises:
      ConfigError: the file is damaged, or it holds another model.
    """
    if runs_on_host(found):
        return _of_runner(config, runnable_file.load(found))
    # `find` finds the checkpoints in a run's directory, even if a SavedModel was put into it.
    has_graph = saved_model.is_saved_model(path)
    if not has_graph or found not in (path, os.path.join(path, tf_checkpoint.VARIABLES)):
        about = about_file.read_about(weights_file.about_directory(found))
        return _of_weights(config, path, found, about, fixed)
    about = saved_model.read_about(path)
    try:
        return _of_weights(config, path, found, about, fixed, is_saved_model=True)
    except ConfigError as error:
        print(
            f"{path} is a SavedModel whose network cannot be rebuilt ({error}). Its own graph will "
            "run and can read and write files. Open only what you trust.",
            file=sys.stderr,
        )
    loaded = saved_model.load(path, flag="checkpoint")
    return TrainedModel(
        lambda images: loaded(images, trainable=False),
        about.image_size or config.data.image_size,
        about.class_names,
        about.image_range,
    )


def _of_runner(config: Config, runner: Runner) -> TrainedModel:
    """Calls a runtime from TensorFlow's graphs."""
    names = list(runner.widths)

    def endpoints(images: tf.Tensor) -> dict[str, tf.Tensor]:
        values = tf.numpy_function(
            lambda images: list(map(runner.endpoints(images).get, names)),
            [images],
            [tf.float32] * len(names),
            stateful=False,
        )
        return {
            name: tf.ensure_shape(value, (None, runner.widths[name]))
            for name, value in zip(names, values, strict=True)
        }

    about = runner.about
    image_size = runner.image_size or config.data.image_size
    return TrainedModel(endpoints, image_size, about.class_names, about.image_range)


def _of_weights(
    config: Config,
    path: str,
    found: str,
    about: About,
    fixed: Collection[str],
    *,
    is_saved_model: bool = False,
) -> TrainedModel:
    """Builds our own model with the weights.

    Raises:
      ConfigError: they cannot be read, or are not those of a network that this package can build.
    """
    stored = weights_file.open_weights(found)
    config = recognition.fit(config, stored, path=found, fixed=fixed)
    if is_saved_model:
        config = config.replace(precision="float32")  # SavedModels compute in float32
    model, _, _, about = recognized_model.restored(stored, found, config, about)
    note = None
    if _has_unknown_selector(stored, model) and not saved_settings.find_beside(path):
        note = (
            f"{path} does not say which layer its supervised head reads, and several layers have "
            f"the right width. ft_proj_selector={config.model.ft_proj_selector} is assumed; if "
            "that is wrong, give --ft_proj_selector."
        )
    image_size = config.data.image_size
    is_export = is_saved_model or not tf_checkpoint.matches(found)
    if is_export and "image_size" not in fixed:
        # The settings of a run are beside its checkpoints, but not always beside its exports.
        image_size = about.image_size or image_size
    return TrainedModel(
        lambda images: model(images, training=False),
        image_size,
        about.class_names,
        about.image_range,
        note,
    )


def _has_unknown_selector(stored: Stored, model: SimCLR) -> bool:
    """Returns whether nothing says which of several layers the supervised head reads."""
    if model.supervised_head is None or "ft_proj_selector" in stored.settings:
        return False
    layers = [model.stages[-1], *model.projection_layers]
    width = stored.shapes[f"{SUPERVISED_HEAD}dense/kernel"][0]  # restored, so it is there
    return [layer.output_shape[-1] for layer in layers].count(width) > 1
