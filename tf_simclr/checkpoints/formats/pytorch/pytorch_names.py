"""Finds ResNets among the names of PyTorch tensors, and translates the names to our paths.

torchvision's names (layer1.0.conv1.weight) are those of all programs, below some prefix and with
other words for the four groups of blocks: lightly numbers the children (backbone.4.0.conv1.weight),
VISSL nests them (trunk._feature_blocks.layer1.0.conv1.weight). So a network is four groups of
blocks below one prefix. Where torchvision has no name, we use timm's (se.fc1) or our own (sk.conv).
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

Shapes = Mapping[str, tuple[int, ...]]
_LONGEST = 500  # characters; longer names are no network's
_SHOWN = 100  # characters of a name in a message
GROUPS = 4
_LAYERS = {
    "conv1": "conv1",
    "bn1": "conv1/bn",
    "conv2": "conv2",
    "bn2": "conv2/bn",
    "conv3": "conv3",
    "bn3": "conv3/bn",
    "downsample.0": "shortcut",
    "downsample.1": "shortcut/bn",
    "se.fc1": "se/reduce",
    "se.fc2": "se/expand",
    "sk.conv": "sk/conv",
    "sk.bn": "sk/conv/bn",
    "sk.reduce": "sk/reduce",
    "sk.reduce_bn": "sk/reduce/bn",
    "sk.expand": "sk/expand",
}
_STEM = {
    "stem.0": "conv1",
    "stem.1": "conv1/bn",
    "stem.3": "conv2",
    "stem.4": "conv2/bn",
    "conv1": "conv",
    "bn1": "conv/bn",
}
_BN = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_OTHER = {"weight": "kernel", "bias": "bias"}
# {our path in a block or in the stem: module in torchvision's names}
_MODULES = {path: module for module, path in _LAYERS.items()}
_STEM_MODULES = {path: module for module, path in _STEM.items()}


class Network(NamedTuple):
    """A ResNet among the tensors of a file.

    Attributes:
      prefix: what precedes the names of its tensors: "" or "backbone.".
      groups: the names of its four groups of blocks: ("layer1", ..., "layer4").
    """

    prefix: str
    groups: tuple[str, ...]


def networks(shapes: Shapes) -> list[Network]:
    """Finds all ResNets in a file: prefixes below which there are four groups of blocks."""
    groups = defaultdict(set)
    for name, shape in shapes.items():
        *prefix, group, block, layer, value = [""] * 3 + name[:_LONGEST].split(".")
        if (layer, value) == ("conv1", "weight") and block.isdecimal() and len(shape) == 4:
            if re.search(r"\d$", group):
                groups[".".join([*filter(None, prefix), ""])].add(group)
    return [
        Network(prefix, tuple(sorted(names, key=_number)))
        for prefix, names in sorted(groups.items())
        if len(names) == GROUPS
    ]


def _number(group: str) -> int:
    """Returns the number at the end of a group's name."""
    return int(re.findall(r"\d+", group)[-1])


def canonical_names(shapes: Shapes, network: Network) -> dict[str, str]:
    """Translates the names of a network's tensors to torchvision's.

    Returns:
      {torchvision's name: name in the file} of the stem and the blocks. A tensor of a block without
      a counterpart in torchvision keeps its name, without the prefix.
    """
    below = [name for name in shapes if name.startswith(network.prefix)]
    stem = _stem_modules(shapes, network, below)
    names = {}
    for name in below:
        rest = name.removeprefix(network.prefix)
        if rest.endswith(".num_batches_tracked"):
            continue
        head, _, tail = rest.partition(".")
        module, _, value = rest.rpartition(".")
        if head in network.groups:
            group = network.groups.index(head) + 1
            names[f"layer{group}.{tail.replace('.shortcut.', '.downsample.')}"] = name
        elif module in stem:
            names[f"{stem[module]}.{value}"] = name
        elif len(shapes[name]) == 4:  # a convolution that our network lacks
            names[rest] = name
    return names


def _stem_modules(shapes: Shapes, network: Network, below: list[str]) -> dict[str, str]:
    """Returns {module of the stem: module in torchvision's names}."""
    modules = {name.removeprefix(network.prefix).rpartition(".")[0] for name in below}
    direct = sorted(module for module in modules if "." not in module)
    weights = {module: shapes.get(f"{network.prefix}{module}.weight", ()) for module in direct}
    convolutions = [module for module in direct if len(weights[module]) == 4]
    if len(convolutions) != 1:
        return {}
    stem = {module: module for module in modules if module in _STEM and "." in module}
    stem[convolutions[0]] = "conv1"
    for module in direct:
        if f"{network.prefix}{module}.running_mean" in shapes:
            if weights[module] == weights[convolutions[0]][:1]:
                stem[module] = "bn1"
                break
    return stem


def differences(shapes: Shapes) -> list[str]:
    """Says where tensors differ from those of a ResNet of this package.

    Args:
      shapes: {torchvision's name: shape}.
    """
    expected = _expected_shapes(shapes)
    others = sorted(
        name for name in shapes.keys() - expected.keys() if not re.search(r"\.(se|sk)\.", name)
    )
    found = [f"it also has {name[:_SHOWN]!r}" for name in others]
    # In the order of the network, because one difference early causes others later.
    for name, shape in expected.items():
        if name in shapes and shapes[name] != shape:
            found.append(f"{name!r} has shape {shapes[name]}, not {shape}")
    return found + [f"it lacks {name!r}" for name in expected if name not in shapes]


def _expected_shapes(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a ResNet with as many blocks and with the width of each group.

    Shapes of selective kernels and of squeeze-and-excitation are checked when the network is
    recognized.
    """
    first = shapes.get("conv1.weight", ())
    # The input of the first block stands in for a stem of another kind.
    channels = _number_at(shapes, "conv1.weight", 0) or _number_at(
        shapes, "layer1.0.conv1.weight", 1
    )
    expected: dict[str, tuple[int, ...]] = {}

    def add(convolution: str, norm: str, inputs: int, outputs: int, side: int) -> None:
        expected[f"{convolution}.weight"] = (outputs, inputs, side, side)
        expected.update({f"{norm}.{value}": (outputs,) for value in _BN})

    if "stem.0.weight" in shapes:
        add("stem.0", "stem.1", 3, channels // 2, 3)
        add("stem.3", "stem.4", channels // 2, channels // 2, 3)
        add("conv1", "bn1", channels // 2, channels, 3)
    else:
        add("conv1", "bn1", 3, channels, 3 if first[-1:] == (3,) else 7)
    expand = 4 if "layer1.0.conv3.weight" in shapes else 1
    for group in range(1, GROUPS + 1):
        blocks = range(_num_blocks(shapes, group))
        widths = (_number_at(shapes, f"layer{group}.{b}.conv1.weight", 0) for b in blocks)
        width = next(filter(None, widths), 0)
        for block in blocks:
            name = f"layer{group}.{block}."
            sides = (1, 3, 1) if expand > 1 else (3, 3)
            for n, side in enumerate(sides, 1):
                inputs = channels if n == 1 else width
                outputs = expand * width if n == len(sides) else width
                if not (n == 2 and f"{name}sk.conv.weight" in shapes):
                    add(f"{name}conv{n}", f"{name}bn{n}", inputs, outputs, side)
            is_identity = group == 1 and expand == 1 and f"{name}downsample.0.weight" not in shapes
            if block == 0 and not is_identity:
                add(f"{name}downsample.0", f"{name}downsample.1", channels, expand * width, 1)
            channels = expand * width
    return expected


def _number_at(shapes: Shapes, name: str, axis: int) -> int:
    shape = shapes.get(name, ())
    return shape[axis] if len(shape) > axis else 0


def _num_blocks(shapes: Shapes, group: int) -> int:
    """Counts the blocks of a group, up to the last."""
    pattern = re.compile(rf"layer{group}\.(\d{{1,3}})\.conv1\.weight")
    numbers = (int(match[1]) for name in shapes if (match := pattern.fullmatch(name)))
    return max(numbers, default=-1) + 1


def our_path(name: str) -> str | None:
    """Translates torchvision's name of a backbone's tensor to our path; None for others."""
    module, _, value = name.rpartition(".")
    if match := re.fullmatch(r"layer([1-4])\.(\d{1,3})\.(.+)", module):
        layer = _LAYERS.get(match[3])
        place = f"base_model/block_group{match[1]}/block{int(match[2]) + 1}"
    else:
        layer, place = _STEM.get(module), "base_model/stem"
    values = _BN if layer and layer.endswith("/bn") else _OTHER
    return f"{place}/{layer}/{values[value]}" if layer and value in values else None


def torch_name(path: str) -> str:
    """Translates our path of a backbone's variable to torchvision's name (see `our_path`)."""
    layer, _, variable = path.removeprefix("base_model/").rpartition("/")
    value = torch_value(variable, is_bn=layer.endswith("/bn"))
    if layer.startswith("stem/"):
        return f"{_STEM_MODULES[layer.removeprefix('stem/')]}.{value}"
    group, block, layer = layer.split("/", 2)
    number = int(block.removeprefix("block")) - 1
    return f"layer{group.removeprefix('block_group')}.{number}.{_MODULES[layer]}.{value}"


def torch_value(variable: str, *, is_bn: bool) -> str:
    """Translates the last part of our paths: kernel to weight, moving_mean to running_mean."""
    values = _BN if is_bn else _OTHER
    return next(value for value, ours in values.items() if ours == variable)
