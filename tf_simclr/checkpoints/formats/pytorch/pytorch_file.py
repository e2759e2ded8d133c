"""Reads ResNets that PyTorch programs have saved: safetensors, and .pth through torch.

The names of torchvision and timm are understood, also below the prefixes of lightly, solo-learn,
VISSL and others (`pytorch_names`). The tensors do not show the padding of max pooling, the
normalization of images, and which convolution of a bottleneck has the stride. They are assumed to
be as in torchvision. `Stored.notes` names the normalization, which differs most between programs.
"""

import json
import math
import os
import pathlib
from typing import Any

from tf_simclr.checkpoints import about_file
from tf_simclr.checkpoints.formats.pytorch import (
    pytorch_assumptions,
    pytorch_heads,
    pytorch_names,
    pytorch_tensors,
)
from tf_simclr.checkpoints.formats.pytorch.pytorch_heads import Variable
from tf_simclr.checkpoints.formats.pytorch.pytorch_names import Network
from tf_simclr.checkpoints.formats.pytorch.pytorch_tensors import Tensors
from tf_simclr.checkpoints.formats.stored import Stored
from tf_simclr.errors import ConfigError, listed, one_line

SAFETENSORS = ".safetensors"
PICKLES = (".pth", ".pt", ".ckpt", ".tar", ".bin", ".torch")
METADATA = "tf_simclr"  # key of our settings in the metadata of a safetensors file
_SHOWN = 3  # differences in an error message
# A zip file, a pickle, and the numbers with which old versions of torch begin.
_MAGIC = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def matches(path: str) -> bool:
    """Returns whether a file has a name and a beginning of PyTorch files."""
    extension = os.path.splitext(path)[1].lower()
    if extension not in PICKLES:
        return extension == SAFETENSORS
    try:
        with pathlib.Path(path).open("rb") as file:
            return file.read(4).startswith(_MAGIC)
    except OSError:
        return True  # `open` says why


def open(path: str, prefix: str = "") -> Stored:
    """Opens a ResNet in a PyTorch file.

    Args:
      path: the file.
      prefix: the prefix of the names to read, such as "module.encoder_q", if the file contains
        several networks.

    Raises:
      ConfigError: the file cannot be read, contains no ResNet of this package or several, or its
        package (safetensors, torch) is not installed.
    """
    reader = pytorch_tensors.read_pickle
    if path.lower().endswith(SAFETENSORS):
        reader = pytorch_tensors.read_safetensors
    try:
        tensors = _below(reader(path), prefix)
        # A pickle may claim that a tensor is larger than what is stored of it.
        if sum(map(math.prod, tensors.shapes.values())) > os.path.getsize(path):
            raise ValueError("its tensors are larger than the file")
        network = _only_network(tensors, path, prefix)
        names = pytorch_names.canonical_names(tensors.shapes, network)
        shapes = {name: tensors.shapes[source] for name, source in names.items()}
        differences = pytorch_names.differences(shapes)
        if not differences:
            return _stored(tensors, network, names, path)
    except ConfigError:
        raise
    except (ValueError, OSError, MemoryError, RecursionError) as error:
        raise ConfigError(
            f"checkpoint {path!r} cannot be read ({one_line(error)}): give another"
        ) from error
    raise ConfigError(
        f"checkpoint {path!r} is a PyTorch file of another network than ours: "
        f"{listed(differences, separator='; ')}. Give a ResNet of torchvision's form, without "
        "groups, widened bottlenecks or a deep stem"
    )


def _below(tensors: Tensors, prefix: str) -> Tensors:
    """Returns the tensors whose names have the prefix, without it."""
    if not prefix:
        return tensors
    prefix = prefix.removesuffix(".") + "."
    shapes = {
        name.removeprefix(prefix): shape
        for name, shape in tensors.shapes.items()
        if name.startswith(prefix)
    }
    return Tensors(shapes, lambda name: tensors.read(prefix + name), tensors.metadata)


def _only_network(tensors: Tensors, path: str, prefix: str) -> Network:
    """Finds the only ResNet of a file.

    Raises:
      ConfigError: there is none, or there are several.
    """
    networks = pytorch_names.networks(tensors.shapes)
    if len(networks) == 1:
        return networks[0]
    if networks:
        first = f"{prefix.removesuffix('.')}." if prefix else ""
        prefixes = [(first + network.prefix).removesuffix(".") for network in networks]
        listed = ", ".join(repr(name[:100]) for name in prefixes[:_SHOWN])
        raise ConfigError(
            f"checkpoint {path!r} contains {len(networks)} networks, with the prefixes {listed}: "
            "convert one of them with tools/convert_checkpoint.py --prefix"
        )
    names = ", ".join(repr(name[:100]) for name in sorted(tensors.shapes)[:_SHOWN])
    where = f" below the prefix {prefix!r}" if prefix else ""
    raise ConfigError(
        f"checkpoint {path!r} contains no ResNet with four groups of blocks{where}: its tensors "
        f"are called {names or 'nothing'}; give another"
    )


def _stored(tensors: Tensors, network: Network, names: dict[str, str], path: str) -> Stored:
    settings = _own_settings(tensors)
    variables, features = {}, 0
    for name, source in names.items():
        our_path = pytorch_names.our_path(name)
        if our_path is None:
            raise ValueError(f"{source[:100]!r} has no counterpart in our networks")
        variables[our_path] = _convolution_or_vector(tensors, source)
        if name.startswith("layer4.0.") and name.endswith(".running_mean"):
            features = max(features, *variables[our_path].shape)
    rest = tensors.shapes.keys() - set(names.values())
    heads = pytorch_heads.find(tensors, sorted(rest), prefix=network.prefix, features=features)
    variables |= heads.variables
    is_small_stem = tensors.shapes[names["conv1.weight"]][-1] == 3 and "stem.0.weight" not in names
    notes = heads.notes
    if not settings:
        settings, assumptions = pytorch_assumptions.assume(path, small_stem=is_small_stem)
        notes = assumptions + notes
    return Stored(
        "a PyTorch file",
        {our_path: variable.shape for our_path, variable in variables.items()},
        lambda our_path: variables[our_path].read(),
        settings,
        tuple(notes),
    )


def _convolution_or_vector(tensors: Tensors, name: str) -> Variable:
    """Returns a tensor in our layout: (outputs, inputs, h, w) becomes (h, w, inputs, outputs)."""
    shape = tensors.shapes[name]
    if len(shape) != 4:
        return Variable(shape, lambda: tensors.read(name))
    return Variable(
        (*shape[2:], shape[1], shape[0]), lambda: tensors.read(name).transpose(2, 3, 1, 0)
    )


def _own_settings(tensors: Tensors) -> dict[str, Any]:
    """Returns the hidden settings that our own export has written; {} for files of others.

    Raises:
      ValueError: a value is not one that the setting can have.
    """
    if METADATA not in tensors.metadata:
        return {}
    return about_file.parse_network(json.loads(tensors.metadata[METADATA]))
