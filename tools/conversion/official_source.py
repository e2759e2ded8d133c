"""Finds, reads and checks a checkpoint of the official TF2 code."""

import os
import re
from collections.abc import Collection

import tensorflow as tf

from tf_simclr.checkpoints import weights
from tf_simclr.checkpoints.formats import object_graph, official_tf2
from tf_simclr.errors import ConfigError, one_line

# {pattern of a path: flags that decide the variable's shape}; the first match counts.
_FLAGS_BY_PATH = (
    (r"base_model/stem/", ("image_size", "width_multiplier", "sk_ratio")),
    (r"base_model/.*/se/", ("se_ratio", "width_multiplier")),
    (r"base_model/.*/sk/", ("sk_ratio", "width_multiplier")),
    (r"base_model/", ("resnet_depth", "width_multiplier", "sk_ratio", "se_ratio")),
    (r"head_contrastive/", ("num_proj_layers", "proj_out_dim", "proj_head_mode")),
    (r"head_supervised/", ("ft_proj_selector", "proj_head_mode", "proj_out_dim")),
)


def read(source: str) -> tuple[weights.StoredWeights, int]:
    """Opens a checkpoint. Returns its variables, which are read later, and its global step.

    Args:
      source: prefix of an official TF2 object checkpoint, or the directory that holds it.

    Raises:
      ConfigError: the checkpoint does not exist, or is not an official TF2 checkpoint.
    """
    prefix = _prefix(source)
    try:
        reader = tf.train.load_checkpoint(prefix)
        keys = reader.get_variable_to_shape_map()
        _check_official(source, keys)
        step_key = "global_step" + object_graph.SUFFIX
        step = int(reader.get_tensor(step_key)) if keys.get(step_key) == [] else 0
        return weights.StoredWeights(prefix), step
    except ConfigError:
        raise
    except weights.READ_ERRORS as error:
        raise ConfigError(
            f"source {source!r} cannot be read: {one_line(error)}; is the file complete?"
        ) from error


def _prefix(source: str) -> str:
    """Returns the checkpoint's prefix; raises ConfigError unless exactly one is found."""
    for directory in (source, os.path.dirname(os.path.dirname(source))):
        if tf.io.gfile.exists(os.path.join(directory, "saved_model.pb")):
            raise ConfigError(
                f"source {source!r} is a SavedModel, which is not supported yet; "
                "name a TF2 checkpoint such as DIR/ckpt-1000"
            )
    if tf.io.gfile.exists(source + ".index"):
        return source
    if not tf.io.gfile.isdir(source):
        raise ConfigError(
            f"source {source!r} does not exist; name a checkpoint's prefix such as "
            "DIR/ckpt-1000, or its directory"
        )
    if latest := tf.train.latest_checkpoint(source):
        return latest
    # Released checkpoints often lack the file that names the latest one.
    prefixes = sorted(
        path.removesuffix(".index") for path in tf.io.gfile.glob(os.path.join(source, "*.index"))
    )
    if len(prefixes) == 1:
        return prefixes[0]
    if not prefixes:
        raise ConfigError(
            f"source {source!r} is a directory without a checkpoint; name one that "
            "holds ckpt-1000.index or the like"
        )
    raise ConfigError(
        f"source {source!r} holds {len(prefixes)} checkpoints; name one of them, "
        f"e.g. {prefixes[-1]}"
    )


def _check_official(source: str, keys: Collection[str]) -> None:
    """Raises ConfigError if a checkpoint with these keys is not one of the official TF2 code."""
    if official_tf2.is_official(keys):
        return
    if any(key.startswith("model/base_model/") for key in keys):
        reason = "is one of ours already; use it as --checkpoint"
    elif object_graph.OBJECT_GRAPH not in keys:
        reason = "is a TF1 checkpoint, which is not supported yet; name one of the TF2 code"
    else:
        some = ", ".join(sorted(key for key in keys if key != object_graph.OBJECT_GRAPH)[:3])
        reason = (
            f"is not one of the official TF2 code (its variables are called {some}); name "
            f"one whose variables are called {official_tf2.ENCODER}..."
        )
    raise ConfigError(f"source {source!r} {reason}")


def check_fit(source: str, stored: dict[str, tuple], shapes: dict[str, tuple]) -> None:
    """Raises ConfigError for the first variable, in the model's order, whose shape differs.

    Args:
      source: the checkpoint as given to --source.
      stored: {path: shape} in the checkpoint.
      shapes: {path: shape} in the model.
    """
    for path in [*shapes, *sorted(stored.keys() - shapes.keys())]:
        in_checkpoint = stored.get(path, "absent")
        in_model = shapes.get(path, "absent")
        if in_checkpoint != in_model:
            names = next(names for pattern, names in _FLAGS_BY_PATH if re.match(pattern, path))
            raise ConfigError(
                f"source {source!r} does not fit the model flags: {path} is {in_checkpoint} there "
                f"and {in_model} in the model; look at {', '.join(f'--{name}' for name in names)}"
            )
