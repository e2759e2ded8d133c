"""Maps Keras 2's automatic variable names in the official code to our stable paths.

An automatic name (resnet/block_group1/bottleneck_block_5/sk__conv2d_5/conv2d_fixed_padding_15/
conv2d_21/kernel:0) says which part of the model holds the variable. It numbers the layers of the
whole model in the order of their creation. Within one location (a block, or the selective kernel in
it), the rank of that number distinguishes the first convolution from the second. Our layers are
ranked in the same order.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

# The order in which the official code creates the layers of one location.
_CREATED = ("shortcut", "conv1", "conv2", "conv3", "conv", "reduce", "expand")
_OURS = re.compile(
    r"base_model/(?P<part>stem|block_group\d)(?:/block(?P<block>\d+))?(?:/(?P<scope>sk|se))?"
    r"/(?P<layer>\w+?)(?P<bn>/bn)?/\w+"
)
_SCOPES = {"sk__": "sk", "se__": "se"}


class _Location(NamedTuple):
    """Identifies a location with layers of one kind, whose numbers are ranked."""

    part: str
    block: int  # its rank in the group, from 1; 0 in the stem
    scope: str | None
    is_bn: bool


def our_paths(names: Iterable[str], ours: Iterable[str]) -> dict[str, str]:
    """Maps official names to our paths, one to one.

    Args:
      names: official names of one kind of variables, for example of all trainable ones.
      ours: our paths of the same variables.

    Raises:
      ValueError: a name is not understood, or the two sides do not hold the same variables.
    """
    names, ours = list(names), list(ours)
    layers = _our_layers(ours)
    encoder = [name for name in names if name.startswith("resnet")]
    numbers = _official_numbers(encoder)
    paths = {name: _head(name) for name in names if name not in encoder}
    for name in encoder:
        location, number = _locate(name, numbers)
        rank = numbers[location].index(number)
        our_layers = layers.get(location, [])
        if len(our_layers) != len(numbers[location]):
            raise ValueError(
                f"{name}: the official code has {len(numbers[location])} such layers, "
                f"we have {len(our_layers)}"
            )
        paths[name] = f"{our_layers[rank]}/{_variable(name)}"
    different = set(paths.values()) ^ set(ours)
    if different or len(set(paths.values())) < len(paths):
        raise ValueError(f"the variables differ, e.g. {min(different, default='one name twice')}")
    return paths


def _our_layers(ours: list[str]) -> dict[_Location, list[str]]:
    """Returns {location: the layers' paths in the order of creation}."""
    layers_by_place: defaultdict[_Location, set[tuple[int, str]]] = defaultdict(set)
    for path in ours:
        if match := _OURS.fullmatch(path):
            location = _Location(
                match["part"], int(match["block"] or 0), match["scope"], match["bn"] is not None
            )
            layers_by_place[location].add((_CREATED.index(match["layer"]), path.rsplit("/", 1)[0]))
    return {
        location: [layer for _, layer in sorted(layers)]
        for location, layers in layers_by_place.items()
    }


def _official_numbers(names: list[str]) -> dict:
    """Returns {location: sorted layer numbers} and {group: sorted numbers of its blocks}."""
    blocks: defaultdict[str, set[int]] = defaultdict(set)
    for name in names:
        if group := _group(name):
            blocks[group].add(_number(name.split("/")[2]))
    block_numbers: dict = {group: sorted(numbers) for group, numbers in blocks.items()}
    layers: defaultdict[_Location, set[int]] = defaultdict(set)
    for name in names:
        location, number = _locate(name, block_numbers)
        layers[location].add(number)
    return block_numbers | {location: sorted(numbers) for location, numbers in layers.items()}


def _locate(name: str, numbers: dict) -> tuple[_Location, int]:
    """Returns the location of an encoder's variable and the number of its layer."""
    tokens = name.split("/")[1:-1]
    part, block = "stem", 0
    if group := _group(name):
        part, block = group, numbers[group].index(_number(tokens[1])) + 1
        tokens = tokens[2:]
    scope = _SCOPES.get(tokens[0][:4])
    # The innermost layer has the number: reduce and expand have no numbered wrapper.
    return _Location(part, block, scope, "batch_norm" in tokens[-1]), _number(tokens[-1])


def _group(name: str) -> str | None:
    match = re.match(r"resnet\w*/(block_group\d)/", name)
    return match[1] if match else None


def _number(token: str) -> int:
    match = re.search(r"_(\d+)$", token)
    return int(match[1]) if match else 0


def _variable(name: str) -> str:
    return name.rsplit("/", 1)[1].removesuffix(":0")


def _head(name: str) -> str:
    if re.match(r"head_supervised\w*/", name):
        return f"head_supervised/dense/{_variable(name)}"
    if match := re.match(r"projection_head\w*/\w+?_(\d+)/(batch_norm)?", name):
        layer = "dense/bn" if match[2] else "dense"
        return f"head_contrastive/layer{int(match[1]) + 1}/{layer}/{_variable(name)}"
    raise ValueError(f"{name} is not understood")
