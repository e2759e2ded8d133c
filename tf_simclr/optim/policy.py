"""Which variable trains, decays and adapts: by the layer that owns it, never by its name."""

import enum

import keras

from tf_simclr import compat
from tf_simclr.config.choices import OPTIMIZERS
from tf_simclr.models.simclr import SimCLR
from tf_simclr.optim.lars import LARS


class Group(enum.Enum):
    """What a trainable variable is; each one is exactly one of these."""

    KERNEL = "kernel of the encoder or of the projection head"
    BIAS = "bias outside of the supervised head"
    BATCH_NORM = "gamma or beta"
    SUPERVISED_KERNEL = "kernel of the supervised head"
    SUPERVISED_BIAS = "bias of the supervised head"


def groups(model: SimCLR) -> dict[str, Group]:
    """{stable path: Group} of the variables that train, in a fixed order.

    Those of frozen parts (fine_tune_after_block) are left out. The projection head trains in
    fine-tuning too, as in the official code: layers behind ft_proj_selector get no gradient.
    """
    frozen = tuple(
        f"base_model/{stage.name}/" for stage in model.stages[: model.fine_tune_after_block + 1]
    )
    found = {}
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
            found[f"{path}/{name}"] = group
    return found


def trainable_variables(model: SimCLR) -> list:
    """The variables of `groups`, in its order."""
    variables = model.variables_by_path()
    return [variables[path] for path in groups(model)]


def loss_decay_variables(model: SimCLR, optimizer: str) -> list:
    """The variables whose half squared norm, times weight_decay, is part of the loss.

    With LARS only the supervised head's kernel, because LARS decays the others itself; with any
    other optimizer all that train but those of BN: biases are included, as in the official code.
    """
    variables = model.variables_by_path()
    if optimizer == "lars":
        decayed = (Group.SUPERVISED_KERNEL,)
    else:
        decayed = tuple(group for group in Group if group is not Group.BATCH_NORM)
    return [variables[path] for path, group in groups(model).items() if group in decayed]


def make_optimizer(
    model: SimCLR, optimizer: str, learning_rate, *, momentum: float, weight_decay: float
) -> keras.optimizers.Optimizer:
    """The optimizer, built for the model's trainable variables.

    Args:
      model: decides which variables train and which LARS leaves alone: BN, biases and the
        supervised head neither decay nor adapt.
      optimizer: "momentum" (SGD with Nesterov), "adam", "lars" or "lamb".
      learning_rate: a number or a LearningRateSchedule.
      momentum: for "momentum" and "lars".
      weight_decay: for "lars"; the others decay through the loss.

    Raises:
      ConfigError: "lamb" needs a package that is not there (`compat.lamb`).
    """
    if optimizer == "momentum":
        made = keras.optimizers.SGD(learning_rate, momentum=momentum, nesterov=True)
    elif optimizer == "adam":
        made = keras.optimizers.Adam(learning_rate)
    elif optimizer == "lamb":
        made = compat.lamb(learning_rate)
    elif optimizer == "lars":
        plain = [i for i, g in enumerate(groups(model).values()) if g is not Group.KERNEL]
        made = LARS(
            learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            exclude_from_weight_decay=plain,
            exclude_from_layer_adaptation=plain,
        )
    else:
        raise ValueError(f"optimizer must be one of {OPTIMIZERS}, got {optimizer!r}")
    made.build(trainable_variables(model))
    return made
