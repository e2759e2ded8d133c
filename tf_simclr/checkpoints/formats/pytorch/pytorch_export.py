"""Writes a model for PyTorch: model.safetensors, and model.py that loads it.

The tensors have torchvision's names (timm's se.fc1 and our sk.conv where torchvision has none), the
projection head is called projection_head.layers, and the classifier fc. torchvision and timm load
ResNets of depth 50 and more without selective kernels, but they neither normalize images as the
network does nor pad max pooling as TensorFlow does. model.py does both.
"""

import json
import os
import re
import shutil
from typing import Any

import numpy as np

from tf_simclr import files
from tf_simclr.checkpoints.formats import optional
from tf_simclr.checkpoints.formats.pytorch import pytorch_heads, pytorch_module, pytorch_names
from tf_simclr.checkpoints.formats.pytorch.pytorch_file import METADATA
from tf_simclr.models.resnet import BLOCKS_PER_GROUP, NORMALIZATIONS
from tf_simclr.models.simclr import SMALL_STEM_MAX_IMAGE_SIZE, SimCLR

WEIGHTS = "model.safetensors"
PROGRAM = "model.py"
_PROJECTION = re.compile(r"head_contrastive/layer(\d+)/dense/(bn/)?(\w+)")


def write(model: SimCLR, directory: str) -> None:
    """Writes model.safetensors and model.py.

    Args:
      model: the model.
      directory: directory of the files. It is created if it does not exist.

    Raises:
      ConfigError: the package safetensors is not installed.
      OSError: the files cannot be written.
    """
    numpy_files = optional.require("safetensors.numpy", reason="exporting for PyTorch")
    metadata = {"format": "pt", METADATA: json.dumps(network_settings(model))}
    os.makedirs(directory, exist_ok=True)
    path, program = os.path.join(directory, WEIGHTS), os.path.join(directory, PROGRAM)
    unfinished = path + ".unfinished"
    files.write_text(program, pytorch_module.MODULE)
    numpy_files.save_file(state_dict(model), unfinished, metadata=metadata)
    shutil.copymode(program, unfinished)  # safetensors lets nobody else read its files
    os.replace(unfinished, path)


def state_dict(model: SimCLR) -> dict[str, np.ndarray]:
    """Returns the variables of a model as tensors of PyTorch.

    Returns:
      {torchvision's name: value}; convolutions are (outputs, inputs, h, w).
    """
    head = pytorch_heads.HEAD if selected_layer(model) else "fc"
    tensors = {}
    for path, variable in model.variables_by_path().items():
        value = np.asarray(variable, np.float32)
        if value.ndim == 4:
            value = value.transpose(3, 2, 0, 1)
        elif value.ndim == 2:
            value = value.T
        tensors[_name(path, head)] = np.ascontiguousarray(value)
    for i in range(len(model.projection_layers)):
        # PyTorch has no batch normalization with a weight and without a bias.
        mean = f"projection_head.layers.{3 * i + 1}.running_mean"
        tensors.setdefault(mean.replace("running_mean", "bias"), np.zeros_like(tensors[mean]))
    return tensors


def _name(path: str, head: str) -> str:
    """Translates our path to the name of a tensor."""
    if path.startswith("base_model/"):
        return pytorch_names.torch_name(path)
    if match := _PROJECTION.fullmatch(path):
        number = 3 * int(match[1]) - (2 if match[2] else 3)
        value = pytorch_names.torch_value(match[3], is_bn=bool(match[2]))
        return f"projection_head.layers.{number}.{value}"
    return f"{head}.{pytorch_names.torch_value(path.rpartition('/')[2], is_bn=False)}"


def selected_layer(model: SimCLR) -> int:
    """Returns the layer of the projection head that the supervised head reads; 0 for its input."""
    num_layers = len(model.projection_layers)
    selector = model.network.ft_proj_selector
    return num_layers if selector == -1 else selector


def network_settings(model: SimCLR) -> dict[str, Any]:
    """Returns all that model.py must know of a network beside its tensors."""
    network = model.network
    mean, deviation = NORMALIZATIONS.get(network.input_normalization, (None, None))
    has_max_pool = model.image_size > SMALL_STEM_MAX_IMAGE_SIZE
    groups = enumerate(BLOCKS_PER_GROUP[network.resnet_depth], 1)
    return {
        "max_pool": network.max_pool_padding if has_max_pool else None,
        "mean": mean,
        "deviation": deviation,
        "resnet_d": network.sk_ratio > 0,
        "blocks": [f"layer{group}.{block}." for group, number in groups for block in range(number)],
        "projection_layers": len(model.projection_layers),
        "ft_proj_selector": selected_layer(model),
        "batch_norm_decay": network.batch_norm_decay,
        # For reading the file again.
        "max_pool_padding": network.max_pool_padding,
        "input_normalization": network.input_normalization,
    }
