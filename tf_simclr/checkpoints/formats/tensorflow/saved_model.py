"""Writes and loads SavedModels: functions from images to endpoints, for TF Hub and serving."""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from tf_simclr import compat, files
from tf_simclr.checkpoints import about_file
from tf_simclr.checkpoints.about_file import About
from tf_simclr.checkpoints.formats.tensorflow import serving
from tf_simclr.checkpoints.formats.tensorflow.object_graph import variable_tree
from tf_simclr.data.sources.image_range import ImageRange
from tf_simclr.errors import ConfigError, one_line
from tf_simclr.models.simclr import SimCLR

ASSETS = "assets"  # the folder for extra files in a SavedModel
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
      A function f(images, trainable=False) -> {endpoint: tensor}. One tensor is final_avg_pool.

    Raises:
      ConfigError: the SavedModel cannot be loaded or cannot be called.
    """
    try:
        loaded = tf.saved_model.load(path)
    except Exception as error:  # a damaged file raises errors of many types
        raise ConfigError(
            f"{flag} {path!r} cannot be loaded ({one_line(error)}): give another SavedModel"
        ) from error
    if not callable(loaded):
        raise ConfigError(
            f"{flag} {path!r} is not a SavedModel that run.py or the official code "
            "has exported: it cannot be called"
        )

    def endpoints(images: tf.Tensor, trainable: bool = False) -> Any:
        result = loaded(images, trainable=trainable)
        return {"final_avg_pool": result} if tf.is_tensor(result) else result

    return endpoints


def read_about(path: str) -> About:
    """Reads the about.json of a SavedModel (`about_file.read_about`)."""
    return about_file.read_about(os.path.join(path, ASSETS))


class Exportable(NamedTuple):
    """What `write` writes as a SavedModel. It can be written again after its variables change.

    Attributes:
      module: the object that tf.saved_model.load returns.
      signatures: its signatures, traced functions by name (`serving.signatures`).
    """

    module: tf.train.Checkpoint
    signatures: dict[str, Callable]


def exportable(
    model: SimCLR, about: dict[str, Any] | None = None, *, embedding_only: bool = False
) -> Exportable:
    """Traces a model for export. Nothing in it augments images.

    tf.saved_model.load returns a function f(images, trainable=False) that returns the endpoints by
    name. The images are float32 (b, h, w, 3) in [0, 1], of any size, prepared by the caller.
    trainable=True is for fine-tuning: it normalizes by the statistics of the batch and updates the
    moving averages. The object is also a Reusable SavedModel, whose argument is `training`, for
    hub.KerasLayer. Its functions `embed` and `embed_in_training` return only the embedding,
    float32 (b, width), and use only the backbone's variables. keras.layers.TFSMLayer takes their
    names.

    Args:
      model: the model in float32.
      about: content of about.json (`about_file.content`). The signatures use its class_names and
        its range of 16-bit images.
      embedding_only: exports only the backbone. The function then returns the embedding itself,
        so that the SavedModel is one layer of a Sequential model.
    """
    variables = model.variables_by_path()
    if embedding_only:
        variables = {p: v for p, v in variables.items() if p.startswith("base_model/")}
    # Use the same tree as our checkpoints, so that --checkpoint also accepts a SavedModel. Leave
    # out the Keras model itself, because a SavedModel must load without this package.
    module = tf.train.Checkpoint(model=variable_tree(variables))
    with _statistics_of_one_replica(model):
        backbone, endpoints = _traced(model)
    embed = {training: _embed(function) for training, function in backbone.items()}
    module.embed, module.embed_in_training = embed[False], embed[True]
    module.__call__ = _switch(embed if embedding_only else endpoints)
    # hub.KerasLayer looks for these three attributes.
    module.variables = [compat.tf_variable(v) for v in variables.values()]
    module.trainable_variables = [
        compat.tf_variable(v) for path, v in variables.items() if not path.endswith(MOVING_AVERAGES)
    ]
    module.regularization_losses = []
    about = about or {}
    image_range = about.get("preparation", {}).get("image_range")
    signatures = serving.signatures(
        (backbone if embedding_only else endpoints)[False],
        image_size=model.image_size,
        class_names=about.get("class_names"),
        image_range=ImageRange(*image_range) if image_range else None,
    )
    return Exportable(module, signatures)


@contextlib.contextmanager
def _statistics_of_one_replica(model: SimCLR) -> Iterator[None]:
    """Turns synchronization of batch normalization off while a model is traced.

    A SavedModel is traced for one replica. Keras would still call an all-reduce, whose custom
    gradient makes TensorFlow warn whenever the SavedModel is loaded.
    """
    layers = [layer for _, layer in model.named_layers() if getattr(layer, "synchronized", False)]
    try:
        for layer in layers:
            layer.synchronized = False
        yield
    finally:
        for layer in layers:
            layer.synchronized = True


def _traced(model: SimCLR) -> tuple[dict[bool, Callable], dict[bool, Callable]]:
    """Traces the backbone and the endpoints: {training: concrete function of images} for each.

    Everything else in the SavedModel calls these functions, so each graph is stored once.
    """
    pairs = {training: _trace(model, training) for training in (False, True)}
    backbone = {training: pair[0] for training, pair in pairs.items()}
    return backbone, {training: pair[1] for training, pair in pairs.items()}


def _trace(model: SimCLR, training: bool) -> tuple[Callable, Callable]:
    @_function_of_images
    def backbone(images):
        return model.backbone_endpoints(images, training=training)

    features = backbone.get_concrete_function()

    @_function_of_images
    def endpoints(images):
        result = features(images)
        return result | model.head_endpoints(result["final_avg_pool"], training=training)

    return features, endpoints.get_concrete_function()


def _embed(backbone: Callable) -> Callable:
    @_function_of_images
    def embed(images):
        return backbone(images)["final_avg_pool"]

    return embed


def _function_of_images(python_function: Callable) -> Any:
    return tf.function(python_function, autograph=False, input_signature=[serving.PREPARED])


def _switch(functions: dict[bool, Callable]) -> Callable:
    """Traces f(images, trainable=False, training=None) from {training: function of images}."""

    @tf.function(autograph=False)
    def call(images, trainable=False, training=None):
        return functions[bool(trainable if training is None else training)](images)

    for trainable in (False, True):
        call.get_concrete_function(serving.PREPARED, trainable=trainable)
    for training in (False, True):
        call.get_concrete_function(serving.PREPARED, training=training)
    return call


def export(
    model: SimCLR, directory: str, step: int, *, keep: int, about: dict[str, Any] | None = None
) -> str:
    """Writes directory/STEP for a model that is exported only once (`write`)."""
    return write(exportable(model, about), directory, step, keep=keep, about=about)


def write(
    exported: Exportable,
    directory: str,
    step: int,
    *,
    keep: int,
    about: dict[str, Any] | None = None,
) -> str:
    """Writes directory/STEP, then deletes all but the `keep` newest SavedModels there.

    The SavedModel gets its name only when it is complete.

    Args:
      exported: what `exportable` returns.
      directory: directory of the SavedModels.
      step: training step, the name of the new SavedModel.
      keep: number of SavedModels to keep.
      about: content of about.json in the assets (`about_file.write_about`).

    Returns:
      The path of the SavedModel.
    """
    if about is None:
        return _save(exported, directory, step, keep)
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, about_file.ABOUT), "w") as file:
            json.dump(about, file, indent=2)
        exported.module.about = tf.saved_model.Asset(file.name)
        return _save(exported, directory, step, keep)


def _save(exported: Exportable, directory: str, step: int, keep: int) -> str:
    path = os.path.join(directory, str(step))
    unfinished = path + ".unfinished"
    for leftover in (unfinished, path):
        if tf.io.gfile.exists(leftover):
            files.remove(leftover)
    tf.saved_model.save(exported.module, unfinished, signatures=exported.signatures)
    tf.io.gfile.rename(unfinished, path)
    for old_step in steps_in(directory)[:-keep]:
        files.remove(os.path.join(directory, str(old_step)))
    return path


def steps_in(directory: str) -> list[int]:
    """Lists the steps of the SavedModels in a directory, the oldest first."""
    names = (name.rstrip("/") for name in tf.io.gfile.listdir(directory))
    return sorted(int(name) for name in names if re.fullmatch(r"\d+", name))
