"""Writes TF1 checkpoints with the names that the official code gives, independent of our reader."""

from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def _block(
    channels: int, filters: int, deep: bool, sk: float, se: float, project: bool
) -> Iterator:
    """(our layer, kernel's shape) in the order of resnet.py of the official code."""
    out = 4 * filters if deep else filters
    if project:
        yield "shortcut", (1, 1, channels, out)
    if deep:
        yield "conv1", (1, 1, channels, filters)
        if sk:
            reduced = max(int(filters * sk), 32)
            yield "sk/conv", (3, 3, filters, 2 * filters)
            yield "sk/reduce", (1, 1, filters, reduced)
            yield "sk/expand", (1, 1, reduced, 2 * filters)
        else:
            yield "conv2", (3, 3, filters, filters)
        yield "conv3", (1, 1, filters, out)
    else:
        yield "conv1", (3, 3, channels, filters)
        yield "conv2", (3, 3, filters, filters)
    if se:
        reduced = max(1, int(filters * se))
        yield "se/reduce", (1, 1, out, reduced)
        yield "se/expand", (1, 1, reduced, out)


def _layers(depth: int, width: float, sk: float, se: float, small_stem: bool) -> Iterator:
    channels = int(64 * width)
    stem = "base_model/stem/"
    if small_stem:
        yield f"{stem}conv", (3, 3, 3, channels)
    elif sk:
        yield f"{stem}conv1", (3, 3, 3, channels // 2)
        yield f"{stem}conv2", (3, 3, channels // 2, channels // 2)
        yield f"{stem}conv", (3, 3, channels // 2, channels)
    else:
        yield f"{stem}conv", (7, 7, 3, channels)
    for group, count in enumerate(BLOCKS[depth]):
        filters = int(64 * 2**group * width)
        for block in range(count):
            path = f"base_model/block_group{group + 1}/block{block + 1}/"
            for layer, shape in _block(channels, filters, depth >= 50, sk, se, block == 0):
                yield path + layer, shape
            channels = filters * (4 if depth >= 50 else 1)


def encoder(
    depth=18, width=0.125, sk=0.0, se=0.0, small_stem=False
) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """({our path: TF1 name}, {our path: shape}) of a ResNet's variables."""
    names, shapes = {}, {}
    convs = norms = 0
    for layer, shape in _layers(depth, width, sk, se, small_stem):
        scope = "base_model/conv2d" + (f"_{convs}" if convs else "")
        convs += 1
        names[f"{layer}/kernel"], shapes[f"{layer}/kernel"] = f"{scope}/kernel", shape
        if "/se/" in layer:
            names[f"{layer}/bias"], shapes[f"{layer}/bias"] = f"{scope}/bias", shape[-1:]
        elif not layer.endswith("sk/expand"):
            scope = "base_model/batch_normalization" + (f"_{norms}" if norms else "")
            norms += 1
            for variable in BATCH_NORM:
                names[f"{layer}/bn/{variable}"] = f"{scope}/{variable}"
                shapes[f"{layer}/bn/{variable}"] = shape[-1:]
    return names, shapes


def head_name(path: str) -> str:
    """The TF1 name of a head's variable."""
    head, *rest = path.split("/")
    if head == "head_supervised":
        return f"head_supervised/linear_layer/{'/'.join(rest)}"
    layer = f"head_contrastive/nl_{int(rest[0].removeprefix('layer')) - 1}"
    if rest[1:3] == ["dense", "bn"]:
        return f"{layer}/batch_normalization/{rest[3]}"
    return f"{layer}/dense/{rest[2]}"


def write(prefix, values: Mapping[str, np.ndarray]) -> str:
    """Writes a name-based checkpoint; returns its prefix."""
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(values),
        shape_and_slices=[""] * len(values),
        tensors=[tf.convert_to_tensor(value) for value in values.values()],
    )
    return str(prefix)


def write_model(prefix, model, **network) -> str:
    """Writes a model's variables as the official TF1 code would, with slots and counters."""
    names, _ = encoder(**network)
    variables = model.variables_by_path()
    values = {}
    for path, variable in variables.items():
        name = names[path] if path.startswith("base_model/") else head_name(path)
        values[name] = tf.convert_to_tensor(variable).numpy()
        if not path.endswith(("moving_mean", "moving_variance")):
            values[f"{name}/Momentum"] = np.full_like(values[name], 7)
    assert len(set(names) - set(variables)) == 0, "the model has every variable of the encoder"
    return write(prefix, values | {"global_step": np.int64(12345)})
