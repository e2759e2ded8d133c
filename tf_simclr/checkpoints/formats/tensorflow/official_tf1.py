"""Reads TF1 checkpoints of the official code under our paths: the released SimCLRv1 and v2 weights.

TF1 numbers the layers of a scope in the order of their creation: base_model/conv2d_17. Which layer
of a ResNet this is depends on the network, and the shapes of all kernels together tell. A 1x1
convolution before a block is a shortcut and begins a block group, a 3x3 convolution to twice its
channels has selective kernels, and only squeeze-and-excitation has biases.
"""

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tf_simclr.errors import listed

_BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_VARIABLES = {"conv2d": ("kernel", "bias"), "batch_normalization": _BATCH_NORM}
_ENCODER = re.compile(r"base_model/(conv2d|batch_normalization)(?:_([1-9]\d{0,4}))?/(\w+)")
_PROJECTION = re.compile(r"head_contrastive/n?l_(\d{1,3})/(dense|batch_normalization)/(\w+)")
_SUPERVISED = re.compile(r"head_supervised/linear_layer/dense/(kernel|bias)")
_WITHOUT_BATCH_NORM = ("sk/expand", "se/reduce", "se/expand")
MOVING_AVERAGE = "ema_model/"  # some files of SimCLRv2 also hold a moving average of all weights

_Shapes = Mapping[str, Sequence[int]]
_Numbered = Mapping[str, Mapping[int, set[str]]]  # {kind of layer: {number: its variables}}


class _Conv(NamedTuple):
    """Describes a convolution by its scope in the file, its kernel's shape, and its bias."""

    scope: str
    shape: tuple[int, ...]
    has_bias: bool

    @property
    def size(self) -> int:
        """Returns the side of the kernel; 0 if it is none."""
        return self.shape[0] if len(self.shape) == 4 else 0

    @property
    def doubles_channels(self) -> bool:
        """Returns whether the output has twice the channels of the input."""
        return len(self.shape) == 4 and self.shape[3] == 2 * self.shape[2]


def is_official(keys: Iterable[str]) -> bool:
    """Returns whether the keys belong to a TF1 checkpoint of the official code."""
    return any(_ENCODER.fullmatch(key) for key in keys)


def checkpoint_keys(reader: Any) -> dict[str, str]:
    """Finds the model's variables in an official TF1 checkpoint.

    Args:
      reader: the reader that tf.train.load_checkpoint returns.

    Returns:
      {our path: key in the file}.

    Raises:
      ValueError: the encoder's variables are not those of a ResNet, or a key is unknown.
    """
    return paths(reader.get_variable_to_shape_map())


def paths(shapes: _Shapes) -> dict[str, str]:
    """Finds the model's variables among all variables of a TF1 checkpoint.

    Slots of optimizers, counters, and a moving average of all weights are left out.

    Args:
      shapes: {key: shape}.

    Returns:
      {our path: key}.

    Raises:
      ValueError: the encoder's variables are not those of a ResNet, or a key is unknown.
    """
    numbered: dict[str, dict[int, set[str]]] = {kind: {} for kind in _VARIABLES}
    heads, unknown = {}, []
    for key in sorted(shapes):
        match = _ENCODER.fullmatch(key)
        if match and match[3] in _VARIABLES[match[1]]:
            numbered[match[1]].setdefault(int(match[2] or 0), set()).add(match[3])
        elif path := _head_path(key):
            heads[path] = key
        elif not _is_extra(key, shapes):
            unknown.append(key)
    if unknown:
        raise ValueError(f"it has unknown variables: {listed(unknown)}")
    return _encoder_paths(shapes, numbered) | heads


def _is_extra(key: str, shapes: _Shapes) -> bool:
    # A slot's name is that of its variable and one part more: base_model/conv2d/kernel/Momentum.
    is_slot = key.rpartition("/")[0] in shapes
    is_counter = "/" not in key and not shapes[key]  # global_step, beta1_power
    return is_slot or is_counter or key.startswith(MOVING_AVERAGE)


def _head_path(key: str) -> str | None:
    if match := _SUPERVISED.fullmatch(key):
        return f"head_supervised/dense/{match[1]}"
    if match := _PROJECTION.fullmatch(key):
        layer, variable = f"head_contrastive/layer{int(match[1]) + 1}/dense", match[3]
        if match[2] == "dense" and variable == "kernel":
            return f"{layer}/kernel"
        if match[2] == "batch_normalization" and variable in _BATCH_NORM:
            return f"{layer}/bn/{variable}"
    return None


def _encoder_paths(shapes: _Shapes, numbered: _Numbered) -> dict[str, str]:
    """Returns {our path: key} of the encoder's variables."""
    scopes = _scopes("conv2d", numbered)
    norms = _scopes("batch_normalization", numbered)
    if missing := [f"{s}/kernel" for s in scopes if f"{s}/kernel" not in shapes]:
        raise ValueError(f"it lacks {listed(missing)}")
    layers = _layers(
        _Conv(scope, tuple(shapes[f"{scope}/kernel"]), f"{scope}/bias" in shapes)
        for scope in scopes
    )
    normalized = [path for path in layers if not path.endswith(_WITHOUT_BATCH_NORM)]
    if len(norms) != len(normalized):
        raise ValueError(
            f"it has {len(norms)} batch normalizations, but its convolutions need {len(normalized)}"
        )
    layers |= {f"{path}/bn": scope for path, scope in zip(normalized, norms, strict=True)}
    return {
        f"{path}/{variable}": key
        for path, scope in layers.items()
        for variable in ("kernel", "bias", *_BATCH_NORM)
        if (key := f"{scope}/{variable}") in shapes
    }


def _scopes(kind: str, numbered: _Numbered) -> list[str]:
    """Returns the scopes of all layers of a kind in the order of their creation."""
    count = max(numbered[kind], default=0) + 1
    scopes = [f"base_model/{kind}_{n}" if n else f"base_model/{kind}" for n in range(count)]
    if missing := [scope for n, scope in enumerate(scopes) if n not in numbered[kind]]:
        raise ValueError(f"it lacks {listed(missing)}")
    return scopes


def _layers(convs: Iterable[_Conv]) -> dict[str, str]:
    """Finds the layer of each convolution.

    Args:
      convs: all convolutions in the order of their creation. The official code (resnet.py) makes
        the stem first. For each block it makes the shortcut, the main path, and then
        squeeze-and-excitation.

    Returns:
      {our path of the layer: scope in the file}, in the same order.

    Raises:
      ValueError: they are not the convolutions of a ResNet.
    """
    rest = deque(convs)
    layers: dict[str, str] = {}

    def size(ahead: int) -> int:
        return rest[ahead].size if ahead < len(rest) else 0

    def take(path: str, *kernel_sizes: int) -> None:
        if not rest:
            raise ValueError(f"it lacks the convolution {path}")
        conv = rest.popleft()
        if conv.size not in kernel_sizes:
            raise ValueError(f"{conv.scope}/kernel has shape {conv.shape}, unlike {path}")
        layers[path] = conv.scope

    # The stem for small images is also a 3x3 convolution, but a 1x1 shortcut follows it.
    is_resnet_d = size(0) == size(1) == 3
    for name in ("conv1", "conv2", "conv") if is_resnet_d else ("conv",):
        take(f"base_model/stem/{name}", 3, 7)
    is_bottleneck = size(1) == 1  # after the shortcut of the first block
    group = block = 0
    while rest:
        begins_group = size(0) == 1 and not (is_bottleneck and size(1) == 3)
        group, block = (group + 1, 1) if begins_group else (group, block + 1)
        path = f"base_model/block_group{group}/block{block}"
        if begins_group:
            take(f"{path}/shortcut", 1)
        take(f"{path}/conv1", 1 if is_bottleneck else 3)
        if is_bottleneck and rest and rest[0].doubles_channels:
            take(f"{path}/sk/conv", 3)
            take(f"{path}/sk/reduce", 1)
            take(f"{path}/sk/expand", 1)
        else:
            take(f"{path}/conv2", 3)
        if is_bottleneck:
            take(f"{path}/conv3", 1)
        if rest and rest[0].has_bias:
            take(f"{path}/se/reduce", 1)
            take(f"{path}/se/expand", 1)
    return layers
