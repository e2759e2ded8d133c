"""Maps the arrays in a Keras file of weights to our paths, by the structure of the model.

Keras stores the variables of a layer as layers/CLASS_N/vars/I: it numbers the layers of each class
in the order of the graph, and the variables in the order in which the layer makes them.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import h5py

from tf_simclr.checkpoints.formats.keras import hdf5

# {class: its name in the file}: all classes of layers with variables.
GROUPS = {"BatchNormalization": "batch_normalization", "Conv2D": "conv2d", "Dense": "dense"}
OUR_BATCH_NORM = "batch_norm"  # models.batch_norm.BatchNorm
Arrays = dict[str, h5py.Dataset]


def numbered(name: str, count: int) -> str:
    """Returns the name of the group of the layer number `count` of a class: conv2d, conv2d_1, .."""
    return f"{name}_{count}" if count else name


def functional(root: h5py.Group, layers: list[tuple[str, str]]) -> Arrays:
    """Maps the arrays of a functional model whose layers have the names of our paths, with dots.

    Args:
      root: the weights.
      layers: (class, name) of the model's layers, in order.

    Returns:
      {our path: array}.

    Raises:
      ValueError: an array is missing, is left over, or is no plain array.
    """
    parent = hdf5.subgroup(root, "layers") or root
    counts: Counter[str] = Counter()
    arrays: Arrays = {}
    used = set()
    for kind, name in layers:
        if kind not in GROUPS:
            continue
        group = numbered(GROUPS[kind], counts[kind])
        counts[kind] += 1
        used.add(group)
        arrays |= _named(_variables(parent, group), name.replace(".", "/"))
    _check_used(parent, used)
    return arrays


def subclass(root: h5py.Group) -> Arrays:
    """Maps the arrays of a SimCLR, as either version of Keras stores them.

    Returns:
      {our path: array}.

    Raises:
      ValueError: the structure is not that of a SimCLR, or an array is no plain array.
    """
    arrays: Arrays = {}
    stages, projections = itertools.count(), itertools.count(1)
    for part in _parts(root):
        convs = _sequence(part, GROUPS["Conv2D"])
        dense = _sequence(part, GROUPS["Dense"])
        batch_norms = _sequence(part, OUR_BATCH_NORM)
        _check_used(
            part,
            {numbered(GROUPS["Conv2D"], i) for i in range(len(convs))}
            | {numbered(GROUPS["Dense"], i) for i in range(len(dense))}
            | {numbered(OUR_BATCH_NORM, i) for i in range(len(batch_norms))},
        )
        if convs:
            stage = next(stages)
            prefix = f"base_model/block_group{stage}" if stage else "base_model/stem"
            names = _group_names(convs) if stage else _stem_names(convs)
            normalized = [name for name in names if not name.endswith(_WITHOUT_BATCH_NORM)]
        else:
            is_supervised = len(dense) == 1 and len(dense[0]) == 2
            head = "" if is_supervised else f"contrastive/layer{next(projections)}"
            prefix = f"head_{head or 'supervised'}"
            convs, names = dense, ["dense"]
            normalized = [] if is_supervised else names
        if (len(names), len(normalized)) != (len(convs), len(batch_norms)):
            raise ValueError(f"{part.name} is not laid out as {prefix} of a SimCLR")
        for name, variables in zip(names, convs, strict=True):
            arrays |= _named(variables, f"{prefix}/{name}")
        for name, variables in zip(normalized, batch_norms, strict=True):
            arrays |= _named(variables, f"{prefix}/{name}/bn")
    return arrays


_WITHOUT_BATCH_NORM = ("se/reduce", "se/expand", "sk/expand")


def _parts(root: h5py.Group) -> Iterator[h5py.Group]:
    """Yields the layers of the stages and heads, in the order of SimCLR's attributes."""
    # Keras 2 stores attributes by name, and Keras 3 one list of all parts.
    for name in ("stages", "projection_layers", "layers"):
        parent = hdf5.subgroup(root, name)
        for count in itertools.count():
            part = parent and hdf5.subgroup(parent, numbered("functional", count))
            layers = part and hdf5.subgroup(part, "layers")
            if layers is None:
                break
            yield layers
    head = hdf5.subgroup(root, "supervised_head")
    if head and (layers := hdf5.subgroup(head, "layers")):
        yield layers


def _stem_names(convs: list) -> list[str]:
    return ["conv1", "conv2", "conv"] if len(convs) == 3 else ["conv"]


def _group_names(convs: list[list[h5py.Dataset]]) -> list[str]:
    """Names the convolutions of a block group in the order of the graph.

    In each block the main path comes before the shortcut. Only the first block has a shortcut with
    a convolution, unless it is the identity.
    """
    kernels = [variables[0].shape for variables in convs]
    if any(len(shape) != 4 for shape in kernels) or len(kernels) < 2:
        raise ValueError("its block groups have no convolutions in two dimensions")
    names = ["conv1", "conv2"]
    if kernels[0][0] == 1:
        has_selective_kernel = kernels[1][3] == 2 * kernels[1][2]
        middle = ["sk/conv", "sk/reduce", "sk/expand"] if has_selective_kernel else ["conv2"]
        names = ["conv1", *middle, "conv3"]
    if any(len(variables) == 2 for variables in convs):
        names += ["se/reduce", "se/expand"]
    num_blocks, has_shortcut = divmod(len(convs), len(names))
    ordered = []
    for block in range(1, num_blocks + 1):
        in_block = [*names, "shortcut"] if block == 1 and has_shortcut else names
        ordered += [f"block{block}/{name}" for name in in_block]
    return ordered


def _sequence(parent: h5py.Group, name: str) -> list[list[h5py.Dataset]]:
    """Returns the variables of all layers of a class, in order."""
    layers: list[list[h5py.Dataset]] = []
    while hdf5.subgroup(parent, numbered(name, len(layers))):
        layers.append(_variables(parent, numbered(name, len(layers))))
    return layers


def _variables(parent: h5py.Group, name: str) -> list[h5py.Dataset]:
    layer = hdf5.subgroup(parent, name)
    group = layer and hdf5.subgroup(layer, "vars")
    if group is None:
        raise ValueError(f"it lacks {parent.name}/{name}/vars")
    return [hdf5.dataset(group, str(i)) for i in range(len(hdf5.members(group)))]


def _named(variables: list[h5py.Dataset], path: str) -> Arrays:
    """Returns {our path: array} of a layer's variables.

    Raises:
      ValueError: the layer has another number of variables.
    """
    names: Mapping[int, tuple[str, ...]] = {1: ("kernel",), 2: ("kernel", "bias")}
    if path.endswith("/bn"):
        averages = ("moving_mean", "moving_variance")
        names = {3: ("gamma", *averages), 4: ("gamma", "beta", *averages)}
    if len(variables) not in names:
        raise ValueError(f"the layer {path} has {len(variables)} variables")
    return {
        f"{path}/{name}": array
        for name, array in zip(names[len(variables)], variables, strict=True)
    }


def _check_used(parent: h5py.Group, used: set[str]) -> None:
    """Raises ValueError if a layer that is not used has variables."""
    for name in hdf5.members(parent):
        layer: Any = None if name in used else hdf5.subgroup(parent, name)
        if layer is not None:
            for child in hdf5.members(layer):
                group = hdf5.subgroup(layer, child)
                if group is None or len(group):
                    raise ValueError(f"its {layer.name} is not a layer of a SimCLR")
