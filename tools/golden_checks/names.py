"""Keras 2's automatic variable names in the official code -> our stable paths.

Such a name (resnet/block_group1/bottleneck_block_5/sk__conv2d_5/conv2d_fixed_padding_15/conv2d_21/
kernel:0) says in which part the variable lies, and numbers the layers over the whole model in the
order of their creation. So within one place (a block, or the selective kernel in it) the first,
second, ... convolution is found by the rank of its number; ours are ranked in the same order.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

# The order of creation in the official code, within one place.
_CREATED = ("shortcut", "conv1", "conv2", "conv3", "conv", "reduce", "expand")
_OURS = re.compile(
    r"base_model/(?P<part>stem|block_group\d)(?:/block(?P<block>\d+))?(?:/(?P<scope>sk|se))?"
    r"/(?P<layer>\w+?)(?P<bn>/bn)?/\w+"
)
_SCOPES = {"sk__": "sk", "se__": "se"}


class _Place(NamedTuple):
    """Where layers of one kind lie whose numbers are ranked."""

    part: str
    block: int  # its rank in the group, from 1; 0 in the stem
    scope: str | None
    is_bn: bool


def our_paths(names: Iterable[str], ours: Iterable[str]) -> dict[str, str]:
    """{official name: our path}, one to one.

    Args:
      names: official names of one kind of variables, e.g. of all that train.
      ours: our paths of the same variables.

    Raises:
      ValueError: a name is not understood, or the two do not have the same variables.
    """
    names, ours = list(names), list(ours)
    layers = _our_layers(ours)
    encoder = [name for name in names if name.startswith("resnet")]
    numbers = _official_numbers(encoder)
    found = {name: _head(name) for name in names if name not in encoder}
    for name in encoder:
        place, number = _locate(name, numbers)
        rank = numbers[place].index(number)
        there = layers.get(place, [])
        if len(there) != len(numbers[place]):
            raise ValueError(f"{name}: {len(numbers[place])} such layers there, {len(there)} here")
        found[name] = f"{there[rank]}/{_variable(name)}"
    different = set(found.values()) ^ set(ours)
    if different or len(set(found.values())) < len(found):
        raise ValueError(f"the variables differ, e.g. {min(different, default='one name twice')}")
    return found


def _our_layers(ours: list[str]) -> dict[_Place, list[str]]:
    """{place: the layers' paths in the order of creation}."""
    found = defaultdict(set)
    for path in ours:
        if match := _OURS.fullmatch(path):
            place = _Place(
                match["part"], int(match["block"] or 0), match["scope"], match["bn"] is not None
            )
            found[place].add((_CREATED.index(match["layer"]), path.rsplit("/", 1)[0]))
    return {place: [layer for _, layer in sorted(layers)] for place, layers in found.items()}


def _official_numbers(names: list[str]) -> dict:
    """{place: sorted numbers of the layers there}, and {group: sorted numbers of its blocks}."""
    numbers = defaultdict(set)
    for name in names:
        if group := _group(name):
            numbers[group].add(_number(name.split("/")[2]))
    numbers = {group: sorted(blocks) for group, blocks in numbers.items()}
    layers = defaultdict(set)
    for name in names:
        place, number = _locate(name, numbers)
        layers[place].add(number)
    return numbers | {place: sorted(found) for place, found in layers.items()}


def _locate(name: str, numbers: dict) -> tuple[_Place, int]:
    """The place of an encoder's variable and the number of its layer."""
    tokens = name.split("/")[1:-1]
    part, block = "stem", 0
    if group := _group(name):
        part, block = group, numbers[group].index(_number(tokens[1])) + 1
        tokens = tokens[2:]
    scope = _SCOPES.get(tokens[0][:4])
    # The innermost layer's number: reduce and expand have no wrapper that is numbered.
    return _Place(part, block, scope, "batch_norm" in tokens[-1]), _number(tokens[-1])


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
