"""Reads checkpoints of the official TF2 code (google-research/simclr, tf2/) under our paths.

Its keys follow the attributes of its Python objects, e.g.
model/resnet_model/block_groups/0/layers/1/conv2d_bn_layers/2/conv2d/kernel. Lists there hold layers
with and without variables, so an index says little: the first, second, ... convolution of a list
is found by rank.
"""

import re
from collections import defaultdict

import numpy as np
import tensorflow as tf

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
ENCODER = "model/resnet_model/"
_MAIN_LIST = r"(?:conv2d_bn_layers|conv_relu_dropblock_layers)"
_SK_NAMES = {
    "conv2d_fixed_padding/conv2d": "conv",
    "batch_norm_relu/bn": "conv/bn",
    "conv2d_0": "reduce",
    "batch_norm_relu_1/bn": "reduce/bn",
    "conv2d_1": "expand",
}


def is_official(keys) -> bool:
    """True where the keys (or names) of a checkpoint are those of the official TF2 code."""
    return any(key.startswith(ENCODER) for key in keys)


def read(prefix: str) -> dict[str, np.ndarray]:
    """{our path: value} of all model variables of an official checkpoint.

    Raises:
      ValueError: a variable of the model has a key that is not known.
    """
    reader = tf.train.load_checkpoint(prefix)
    return {path: reader.get_tensor(key) for path, key in checkpoint_keys(reader).items()}


def checkpoint_keys(reader) -> dict[str, str]:
    """Finds {our path: key in the file} of all model variables of an official checkpoint.

    Args:
      reader: tf.train.load_checkpoint's.

    Raises:
      ValueError: a variable of the model has a key that is not known.
    """
    keys = [
        key.removesuffix(SUFFIX)
        for key in reader.get_variable_to_shape_map()
        if key.startswith("model/") and key.endswith(SUFFIX)
    ]
    return {path: key + SUFFIX for key, path in paths(keys).items()}


def paths(keys: list[str]) -> dict[str, str]:
    """{official key: our path}; keys without /.ATTRIBUTES/VARIABLE_VALUE.

    Raises:
      ValueError: a key is not known.
    """
    layers = _layers_by_list(keys)
    return {key: _path(key, layers) for key in keys}


def _layers_by_list(keys) -> dict[tuple[str, str], list[int]]:
    """{(list's key, "conv2d" or "bn"): sorted indices of the layers of that kind}."""
    found = defaultdict(set)
    for key in keys:
        if match := re.fullmatch(r"(.*_(?:layers|max_pool))/(\d+)/(conv2d|bn)/\w+", key):
            found[match[1], match[3]].add(int(match[2]))
    return {where: sorted(indices) for where, indices in found.items()}


def _path(key: str, layers) -> str:
    if match := re.fullmatch(r"model/supervised_head/linear_layer/(dense/\w+)", key):
        return f"head_supervised/{match[1]}"
    if match := re.fullmatch(
        r"model/_projection_head/linear_layers/(\d+)/(dense|bn_relu/bn)/(\w+)", key
    ):
        name = "dense/bn" if match[2] == "bn_relu/bn" else "dense"
        return f"head_contrastive/layer{int(match[1]) + 1}/{name}/{match[3]}"
    if match := re.fullmatch(
        ENCODER + r"(initial_conv_relu_max_pool)/(\d+)/(conv2d|bn)/(\w+)", key
    ):
        indices = layers[ENCODER + match[1], match[3]]
        rank = indices.index(int(match[2]))
        name = "conv" if rank == len(indices) - 1 else f"conv{rank + 1}"
        return f"base_model/stem/{name}/{_bn(match[3])}{match[4]}"
    if match := re.fullmatch(ENCODER + r"block_groups/(\d+)/layers/(\d+)/(.*)/(\w+)", key):
        group, block = int(match[1]) + 1, int(match[2]) + 1
        where = f"{ENCODER}block_groups/{match[1]}/layers/{match[2]}/"
        if name := _in_block(match[3], where, layers):
            return f"base_model/block_group{group}/block{block}/{name}/{match[4]}"
    raise ValueError(f"{key} is not a variable of the official model")


def _in_block(rest: str, where: str, layers) -> str | None:
    if match := re.fullmatch(r"(?:shortcut|projection)_layers/\d+/(conv2d|bn)", rest):
        return f"shortcut/{_bn(match[1])}".rstrip("/")
    if match := re.fullmatch(r"(?:.*/)?se_(?:layer/se_)?(reduce|expand)", rest):
        return f"se/{match[1]}"
    if match := re.fullmatch(_MAIN_LIST + r"/\d+/(.+)", rest):
        if match[1] in _SK_NAMES:
            return f"sk/{_SK_NAMES[match[1]]}"
    if match := re.fullmatch(rf"({_MAIN_LIST})/(\d+)/(conv2d|bn)", rest):
        indices = layers[where + match[1], match[3]]
        rank = indices.index(int(match[2]))
        # A bottleneck with two plain convolutions has the selective kernel in between.
        sk = match[1] == "conv_relu_dropblock_layers" and len(indices) == 2
        number = (1, 3)[rank] if sk else rank + 1
        return f"conv{number}/{_bn(match[3])}".rstrip("/")
    return None


def _bn(kind: str) -> str:
    return "bn/" if kind == "bn" else ""
