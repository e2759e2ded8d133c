"""Reads checkpoints and SavedModels of the official TF2 code (google-research/simclr, tf2/).

Both have an object graph with the attributes of the official code's Python objects, such as
model/resnet_model/block_groups/0/layers/1/conv2d_bn_layers/2/conv2d/kernel. The keys of a
checkpoint are these paths, but not the keys of a SavedModel. Such a list also has layers without
variables, so an index alone does not identify a convolution. The rank among the layers of the same
kind in the list does.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_simclr.checkpoints.formats.tensorflow import object_graph
from tf_simclr.checkpoints.formats.tensorflow.object_graph import SUFFIX

ENCODER = "model/resnet_model/"
_MAIN_LIST = r"(?:conv2d_bn_layers|conv_relu_dropblock_layers)"
_SK_NAMES = {
    "conv2d_fixed_padding/conv2d": "conv",
    "batch_norm_relu/bn": "conv/bn",
    "conv2d_0": "reduce",
    "batch_norm_relu_1/bn": "reduce/bn",
    "conv2d_1": "expand",
}
# {(key of a list, "conv2d" or "bn"): sorted indices of the layers of that kind in the list}
_LayerIndices = Mapping[tuple[str, str], list[int]]


def is_official(keys: Iterable[str]) -> bool:
    """Returns whether the keys belong to a checkpoint or SavedModel of the official TF2 code."""
    return any(key.startswith(ENCODER) for key in keys)


def read(prefix: str) -> dict[str, np.ndarray]:
    """Reads all variables of the model from an official checkpoint.

    Returns:
      {our path: value}.

    Raises:
      ValueError: a variable of the model has an unknown key.
    """
    reader = tf.train.load_checkpoint(prefix)
    return {path: reader.get_tensor(key) for path, key in checkpoint_keys(reader).items()}


def checkpoint_keys(reader: Any) -> dict[str, str]:
    """Finds the model's variables in an official checkpoint, or in the variables of a SavedModel.

    Every variable of the model counts, whether or not the lists of variables have it: the released
    SavedModels have an empty trainable_variables_list (google-research/simclr, issue 116).

    Args:
      reader: the reader that tf.train.load_checkpoint returns.

    Returns:
      {our path: key in the file}.

    Raises:
      ValueError: a variable of the model has an unknown key.
    """
    keys = {f"model/{path}": key for path, key in object_graph.model_keys(reader).items()}
    if not keys:  # without an object graph, the keys are the paths
        names = reader.get_variable_to_shape_map()
        keys = {
            key.removesuffix(SUFFIX): key
            for key in names
            if key.startswith("model/") and key.endswith(SUFFIX)
        }
    indices = _layer_indices(keys)
    known = {path: key for name, key in keys.items() if (path := _path(name, indices))}
    known_keys = set(known.values())
    for name, key in keys.items():
        # A variable may have more than one name.
        if key not in known_keys:
            raise _unknown(name)
    return known


def paths(keys: Iterable[str]) -> dict[str, str]:
    """Translates official keys, without SUFFIX, to our paths.

    Returns:
      {official key: our path}.

    Raises:
      ValueError: a key is unknown.
    """
    keys = list(keys)
    indices = _layer_indices(keys)
    result = {}
    for key in keys:
        path = _path(key, indices)
        if path is None:
            raise _unknown(key)
        result[key] = path
    return result


def _unknown(key: str) -> ValueError:
    return ValueError(f"{key} is not a variable of the official model")


def _layer_indices(keys: Iterable[str]) -> _LayerIndices:
    indices = defaultdict(set)
    for key in keys:
        if match := re.fullmatch(r"(.*_(?:layers|max_pool))/(\d+)/(conv2d|bn)/\w+", key):
            indices[match[1], match[3]].add(int(match[2]))
    return {layer_list: sorted(numbers) for layer_list, numbers in indices.items()}


def _path(key: str, layer_indices: _LayerIndices) -> str | None:
    if match := re.fullmatch(r"model/supervised_head/linear_layer/(dense/\w+)", key):
        return f"head_supervised/{match[1]}"
    if match := re.fullmatch(
        r"model/_projection_head/linear_layers/(\d+)/(dense|bn_relu/bn)/(\w+)", key
    ):
        layer = "dense/bn" if match[2] == "bn_relu/bn" else "dense"
        return f"head_contrastive/layer{int(match[1]) + 1}/{layer}/{match[3]}"
    if match := re.fullmatch(
        ENCODER + r"(initial_conv_relu_max_pool)/(\d+)/(conv2d|bn)/(\w+)", key
    ):
        indices = layer_indices[ENCODER + match[1], match[3]]
        rank = indices.index(int(match[2]))
        layer = "conv" if rank == len(indices) - 1 else f"conv{rank + 1}"
        return f"base_model/stem/{layer}/{_bn(match[3])}{match[4]}"
    if match := re.fullmatch(ENCODER + r"block_groups/(\d+)/layers/(\d+)/(.*)/(\w+)", key):
        group, block = int(match[1]) + 1, int(match[2]) + 1
        block_key = f"{ENCODER}block_groups/{match[1]}/layers/{match[2]}/"
        if layer_in_block := _layer_in_block(match[3], block_key, layer_indices):
            return f"base_model/block_group{group}/block{block}/{layer_in_block}/{match[4]}"
    return None


def _layer_in_block(rest: str, block_key: str, layer_indices: _LayerIndices) -> str | None:
    """Translates the part of a key between a residual block and the variable's own name."""
    if match := re.fullmatch(r"(?:shortcut|projection)_layers/\d+/(conv2d|bn)", rest):
        return f"shortcut/{_bn(match[1])}".rstrip("/")
    if match := re.fullmatch(r"(?:.*/)?se_(?:layer/se_)?(reduce|expand)", rest):
        return f"se/{match[1]}"
    if match := re.fullmatch(_MAIN_LIST + r"/\d+/(.+)", rest):
        if match[1] in _SK_NAMES:
            return f"sk/{_SK_NAMES[match[1]]}"
    if match := re.fullmatch(rf"({_MAIN_LIST})/(\d+)/(conv2d|bn)", rest):
        indices = layer_indices[block_key + match[1], match[3]]
        rank = indices.index(int(match[2]))
        # In a bottleneck with two plain convolutions, the selective kernel is between them.
        has_sk = match[1] == "conv_relu_dropblock_layers" and len(indices) == 2
        number = (1, 3)[rank] if has_sk else rank + 1
        return f"conv{number}/{_bn(match[3])}".rstrip("/")
    return None


def _bn(kind: str) -> str:
    return "bn/" if kind == "bn" else ""
