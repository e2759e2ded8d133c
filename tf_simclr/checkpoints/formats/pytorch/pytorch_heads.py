"""Finds the heads among the tensors of a PyTorch file, and translates them to our layers.

Our projection head is a chain of dense layers without bias, each with batch normalization, and all
but the last with ReLU. Other programs differ in biases, which batch normalization can take over
exactly, or in more, and then the head is left out.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from tf_simclr.checkpoints.formats.pytorch.pytorch_tensors import Tensors
from tf_simclr.errors import listed

HEAD = "head_supervised"  # our own name of a classifier on top of the projection head
_EPSILON = 1e-5  # of every batch normalization, there and here
Reader = Callable[[], np.ndarray]


class Variable(NamedTuple):
    """A variable of ours, from one or more tensors of a file.

    Attributes:
      shape: its shape.
      read: returns its value.
    """

    shape: tuple[int, ...]
    read: Reader


class Heads(NamedTuple):
    """The heads of a network, under our paths.

    Attributes:
      variables: {our path: variable}.
      notes: what was left out or changed, for the user.
    """

    variables: dict[str, Variable]
    notes: list[str]


def find(tensors: Tensors, names: Iterable[str], *, prefix: str, features: int) -> Heads:
    """Finds the projection head and the classifier.

    Args:
      tensors: the tensors of the file.
      names: names of the tensors that do not belong to the backbone.
      prefix: the prefix of the backbone's names. Its own `fc` is preferred as the classifier.
      features: width of the backbone's output.
    """
    shapes = {name: tensors.shapes[name] for name in names}
    chains, classifiers = _linear_layers(shapes)
    projection, notes = _projection(tensors, chains, shapes, features)
    supervised, more_notes = _supervised(tensors, classifiers, shapes, prefix, features)
    return Heads(projection | supervised, notes + more_notes)


def _linear_layers(shapes: Mapping) -> tuple[dict[str, dict[int, str]], list[str]]:
    """Returns {parent: {number: its child's name}} of numbered layers, and other linear layers.

    Only parents with a linear layer count. A child is a linear layer or a batch normalization.
    """
    chains: dict[str, dict[int, str]] = defaultdict(dict)
    others = []
    for name, shape in shapes.items():
        module, _, value = name.rpartition(".")
        parent, _, child = module.rpartition(".")
        is_linear = value == "weight" and len(shape) == 2
        if child.isdecimal() and len(child) < 4 and (is_linear or value == "running_mean"):
            chains[parent][int(child)] = module
        elif is_linear:
            others.append(module)
    chains = {
        parent: dict(sorted(children.items()))
        for parent, children in chains.items()
        if any(len(shapes.get(f"{module}.weight", ())) == 2 for module in children.values())
    }
    return chains, sorted(others)


def _projection(
    tensors: Tensors, chains: Mapping[str, dict[int, str]], shapes: Mapping, features: int
) -> tuple[dict[str, Variable], list[str]]:
    fitting, notes = {}, []
    for parent, children in sorted(chains.items()):
        try:
            fitting[parent] = _layers(tensors, children, shapes, features)
        except ValueError as error:
            notes.append(f"{parent!r} is left out: {error}.")
    if len(fitting) > 1:
        notes.append(
            f"{listed(map(repr, fitting))} are left out: each could be the projection head."
        )
        return {}, notes
    for variables, layer_notes in fitting.values():
        return variables, notes + layer_notes
    return {}, notes


def _layers(
    tensors: Tensors, children: dict[int, str], shapes: Mapping, features: int
) -> tuple[dict[str, Variable], list[str]]:
    """Translates a chain of layers to our projection head.

    Raises:
      ValueError: it is no such head.
    """
    numbers = list(children)
    is_linear = [len(shapes.get(f"{module}.weight", ())) == 2 for module in children.values()]
    num_layers = len(numbers) // 2
    # Linear, batch normalization, ReLU: numbers 0, 1, 3, 4, ...
    expected = [numbers[0] + 3 * (i // 2) + i % 2 for i in range(2 * num_layers)]
    if numbers != expected or is_linear != [True, False] * num_layers:
        raise ValueError(
            "our projection head has batch normalization after each linear layer, and ReLU between"
        )
    modules, inputs = list(children.values()), features
    variables: dict[str, Variable] = {}
    notes = []
    for i in range(num_layers):
        linear, norm = modules[2 * i : 2 * i + 2]
        last = i == num_layers - 1
        outputs, linear_inputs = shapes[f"{linear}.weight"]
        if linear_inputs != inputs or not (last or outputs == features):
            raise ValueError(f"its layers are not {features} wide, as the backbone's output is")
        layer, folded = _layer(tensors, linear, norm, outputs, last=last)
        variables |= {f"head_contrastive/layer{i + 1}/dense/{k}": v for k, v in layer.items()}
        if folded:
            notes.append(
                f"The bias of {norm!r} became a part of its moving mean, because our last layer "
                "has no bias: projections are the same in inference, but not while training."
            )
        inputs = outputs
    return variables, notes


def _layer(
    tensors: Tensors, linear: str, norm: str, width: int, *, last: bool
) -> tuple[dict[str, Variable], bool]:
    """Translates a linear layer and its batch normalization.

    Returns:
      {path in the layer: variable}, and whether the mean has taken over the bias of the last batch
      normalization.

    Raises:
      ValueError: the values have no counterpart.
    """
    shapes, read = tensors.shapes, tensors.read
    gamma_name, beta_name, bias_name = f"{norm}.weight", f"{norm}.bias", f"{linear}.bias"
    mean_name, variance_name = f"{norm}.running_mean", f"{norm}.running_var"
    for name in (gamma_name, beta_name, bias_name, mean_name, variance_name):
        if shapes.get(name, (width,)) != (width,):
            raise ValueError(f"{name!r} has shape {shapes[name]}, not {(width,)}")
    if mean_name not in shapes or variance_name not in shapes:
        raise ValueError(f"{norm!r} has no moving averages")

    def gamma() -> np.ndarray:
        return read(gamma_name) if gamma_name in shapes else np.ones(width, np.float32)

    def beta() -> np.ndarray:
        return read(beta_name) if beta_name in shapes else np.zeros(width, np.float32)

    # Batch normalization subtracts a bias again, so it only shifts the mean.
    def mean() -> np.ndarray:
        values = read(mean_name)
        if bias_name in shapes:
            values = values - read(bias_name)
        if folds:
            values = values - beta() * np.sqrt(read(variance_name) + _EPSILON) / gamma()
        return np.asarray(values, np.float32)

    folds = last and bool(np.any(beta()))
    if folds and not np.all(gamma()):
        raise ValueError(f"{norm!r} has a bias that our last layer cannot take over")
    variables = {
        "kernel": Variable(shapes[f"{linear}.weight"][::-1], lambda: read(f"{linear}.weight").T),
        "bn/gamma": Variable((width,), gamma),
        "bn/beta": Variable((width,), beta),
        "bn/moving_mean": Variable((width,), mean),
        "bn/moving_variance": Variable((width,), lambda: read(variance_name)),
    }
    if last:
        del variables["bn/beta"]
    return variables, folds


def _supervised(
    tensors: Tensors, modules: list[str], shapes: Mapping, prefix: str, features: int
) -> tuple[dict[str, Variable], list[str]]:
    """Finds the one linear layer with bias on top of the features, or our own classifier."""
    candidates = [
        module
        for module in modules
        if shapes.get(f"{module}.bias") == shapes[f"{module}.weight"][:1]
        and (shapes[f"{module}.weight"][1] == features or module == HEAD)
    ]
    for preferred in (HEAD, f"{prefix}fc"):
        if preferred in candidates:
            candidates = [preferred]
    notes = []
    if others := [module for module in modules if module not in candidates]:
        notes.append(
            f"{listed(map(repr, others))}: left out, not a classifier of the backbone's output."
        )
    if len(candidates) != 1:
        if candidates:
            notes.append(
                f"{listed(map(repr, candidates))} are left out: each could be the supervised head."
            )
        return {}, notes
    (module,) = candidates
    kernel, bias = f"{module}.weight", f"{module}.bias"
    variables = {
        "head_supervised/dense/kernel": Variable(
            shapes[kernel][::-1], lambda: tensors.read(kernel).T
        ),
        "head_supervised/dense/bias": Variable(shapes[bias], lambda: tensors.read(bias)),
    }
    notes.append(f"{module!r} is the supervised head, of {shapes[bias][0]} classes.")
    return variables, notes
