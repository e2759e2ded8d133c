"""Decides by layer, never by name, which variables train, decay and adapt."""

import enum
from typing import Any

import keras

from tf_simclr import compat
from tf_simclr.models.simclr import SimCLR
from tf_simclr.optim.lars import LARS

OPTIMIZERS = ("momentum", "adam", "lars", "lamb")


class Group(enum.Enum):
    """The kinds of trainable variables. Each variable belongs to exactly one group."""

    KERNEL = "kernel of the backbone or of the projection head"
    BIAS = "bias outside the supervised head"
    BATCH_NORM = "gamma or beta"
    SUPERVISED_KERNEL = "kernel of the supervised head"
    SUPERVISED_BIAS = "bias of the supervised head"


def groups(model: SimCLR) -> dict[str, Group]:
    """Returns {stable path: Group} of the variables that train, in a fixed order.

    Variables of frozen stages (fine_tune_after_block) are left out. The projection head also trains
    in fine-tuning, as in the official code; layers above ft_proj_selector get no gradient.
    """
    frozen = tuple(
        f"base_model/{stage.name}/" for stage in model.stages[: model.fine_tune_after_block + 1]
    )
    groups_by_path = {}
    for path, layer in model.named_layers():
        if path.startswith(frozen):
            continue
        supervised = model.supervised_head is not None and layer in model.supervised_head.layers
        for variable in layer.trainable_variables:
            if isinstance(layer, keras.layers.BatchNormalization):
                name = "gamma" if variable is layer.gamma else "beta"
                group = Group.BATCH_NORM
            elif variable is layer.kernel:
                name = "kernel"
                group = Group.SUPERVISED_KERNEL if supervised else Group.KERNEL
            else:
                name = "bias"
                assert variable is layer.bias, f"{path} owns a variable of no known group"
                group = Group.SUPERVISED_BIAS if supervised else Group.BIAS
            groups_by_path[f"{path}/{name}"] = group
    return groups_by_path


def trainable_variables(model: SimCLR) -> list:
    """Returns the variables of `groups`, in the same order."""
    variables = model.variables_by_path()
    return [variables[path] for path in groups(model)]


def last_updated(model: SimCLR) -> Any:
    """Returns the variable whose gradient backpropagation computes last.

    This is the first variable of the backbone. If all of the backbone is frozen, it is the kernel
    of the supervised head, because the first layers of the projection head may get no gradient.
    """
    group_by_path = groups(model)
    backbone = [path for path in group_by_path if path.startswith("base_model/")]
    head = [path for path, group in group_by_path.items() if group is Group.SUPERVISED_KERNEL]
    return model.variables_by_path()[(backbone or head or list(group_by_path))[0]]


def loss_decay_variables(model: SimCLR, optimizer: str) -> list:
    """Returns the variables whose half squared norm, times weight_decay, is part of the loss.

    With LARS this is only the kernel of the supervised head, because LARS itself decays the other
    kernels. With any other optimizer these are all trainable variables except gamma and beta of
    batch normalization. Biases also decay, as in the official code.
    """
    variables = model.variables_by_path()
    if optimizer == "lars":
        decayed = {Group.SUPERVISED_KERNEL}
    else:
        decayed = set(Group) - {Group.BATCH_NORM}
    return [variables[path] for path, group in groups(model).items() if group in decayed]


def make_optimizer(
    model: SimCLR,
    optimizer: str,
    learning_rate: compat.LearningRate,
    *,
    momentum: float,
    weight_decay: float,
) -> keras.optimizers.Optimizer:
    """Makes an optimizer and builds it for a model's trainable variables.

    LARS does not decay or adapt biases, batch normalization and the supervised head.

    Args:
      model: its layers decide which variables train and which LARS excludes.
      optimizer: "momentum" (SGD with Nesterov), "adam", "lars" or "lamb".
      learning_rate: a number or a LearningRateSchedule.
      momentum: used by "momentum" and "lars".
      weight_decay: used by "lars". All other decay is part of the loss (`loss_decay_variables`).

    Raises:
      ConfigError: "lamb" needs a package that is not installed (`compat.lamb`).
    """
    if optimizer == "momentum":
        built = keras.optimizers.SGD(learning_rate, momentum=momentum, nesterov=True)
    elif optimizer == "adam":
        built = keras.optimizers.Adam(learning_rate)
    elif optimizer == "lamb":
        built = compat.lamb(learning_rate)
    elif optimizer == "lars":
        excluded = [i for i, g in enumerate(groups(model).values()) if g is not Group.KERNEL]
        built = LARS(
            learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            exclude_from_weight_decay=excluded,
            exclude_from_layer_adaptation=excluded,
        )
    else:
        raise ValueError(f"optimizer must be one of {OPTIMIZERS}, got {optimizer!r}")
    built.build(trainable_variables(model))
    return built
