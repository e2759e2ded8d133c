"""Recognizes the network that weights belong to, from the names and shapes of its variables.

`--checkpoint` needs no model flags then: depth, width, selective kernels, squeeze-and-excitation,
stem, projection head and classes all show in the shapes.
"""

import re
from collections.abc import Collection
from typing import Any

import tensorflow as tf

from tf_simclr.checkpoints import network_shapes, weights_file
from tf_simclr.checkpoints.formats.stored import (
    SELECTOR_IS_HIDDEN,
    SUPERVISED_HEAD,
    Stored,
)
from tf_simclr.checkpoints.network_shapes import Shapes, Unrecognized, projection_widths
from tf_simclr.config import Config, saved_settings, settings
from tf_simclr.errors import ConfigError

# What training takes from the weights that it starts from.
_ADOPTED = (
    "resnet_depth",
    "width_multiplier",
    "sk_ratio",
    "se_ratio",
    "first_shortcut",
    "max_pool_padding",
    "input_normalization",
    "proj_head_mode",
    "num_proj_layers",
    "proj_out_dim",
)


def adopt(config: Config, *, fixed: Collection[str] = ()) -> tuple[Config, str | None]:
    """Sets the model settings of a run that starts from weights to what the weights show.

    Args:
      config: the settings; training.checkpoint names the weights, if there are any.
      fixed: names of the settings that must keep their values: those given as flags.

    Returns:
      The settings, and text for the user: what was recognized, and notes. The text is None if the
      run does not start from --checkpoint, or if the weights cannot be opened as variables, such as
      a SavedModel of another program. A run that resumes or is evaluated keeps the network that it
      has adopted at its start.

    Raises:
      ConfigError: the weights contradict a fixed setting or the image size.
    """
    path, mode = config.training.checkpoint, config.runtime.mode
    trains = mode in ("train", "train_then_eval")
    resumes = trains and tf.train.latest_checkpoint(config.runtime.model_dir or "") is not None
    if resumes or mode == "eval":
        return _keep_network(config, fixed), None
    if not path:
        return config, None
    try:
        stored = weights_file.open_weights(path)
    except ConfigError:
        return config, None  # the mode opens it again, and reports the error or loads a graph
    config = fit(config, stored, path=path, fixed=fixed)
    # Training starts its supervised head anyway, and prediction says it itself, if it needs logits.
    notes = [note for note in stored.notes if note != SELECTOR_IS_HIDDEN]
    lines = [f"Recognized in {path}: {describe(stored, config)}"] + [f"Note: {n}" for n in notes]
    return config, "\n".join(lines)


def _keep_network(config: Config, fixed: Collection[str]) -> Config:
    """Returns the network settings of the run in model_dir, if it has started from --checkpoint.

    They are only in its config.json: the command's gin file does not have what was recognized.
    """
    saved = saved_settings.read_of_run(config.runtime.model_dir or "")
    if not saved.get("checkpoint"):
        return config
    names = list(_ADOPTED)
    if config.data.image_size == settings()["image_size"].default:
        names.append("image_size")  # another size is a decision of the user
    return config.replace(
        **{name: saved[name] for name in names if name in saved and name not in fixed}
    )


def fit(config: Config, stored: Stored, *, path: str, fixed: Collection[str] = ()) -> Config:
    """Changes the settings whose values do not fit the weights.

    A setting that fits keeps its value, because shapes do not always determine it: every sk_ratio
    up to 0.0625 gives the same ResNet-50.

    Args:
      config: the settings to start from.
      stored: the weights.
      path: the path that the user gave, for error messages.
      fixed: names of the settings that must keep their values.

    Raises:
      ConfigError: the weights are of a network that this package cannot build, or contradict a
        fixed setting or the image size.
    """
    try:
        values = network_shapes.backbone_settings(stored.shapes, config)
        if not ("proj_head_mode" in fixed and config.model.proj_head_mode == "none"):
            values |= _projection_head(stored.shapes, config)
        for name in sorted(values.keys() & set(fixed)):
            raise Unrecognized(
                f"its variables show {name}={values[name]}, not {config.to_dict()[name]}: leave "
                f"--{name} out, or"
            )
        config = config.replace(**values)
        trains = config.runtime.mode in ("train", "train_then_eval")
        for name, value in stored.settings.items():
            # Which layer fine-tuning starts from is a choice of the new run.
            if name not in fixed and not (trains and name == "ft_proj_selector"):
                config = config.replace(**{name: value})
        return config if trains else _fit_selector(config, stored.shapes, fixed)
    except Unrecognized as error:
        message = f"checkpoint {path!r} is {stored.kind}, but {error}"
        end = " give another" if message.endswith(", or") else ": give another"
        raise ConfigError(message + end) from error
    except (IndexError, KeyError, ZeroDivisionError) as error:
        raise ConfigError(
            f"checkpoint {path!r} is {stored.kind}, but its variables are not those of a ResNet of "
            f"this package (at {error}): give another"
        ) from error


def describe(stored: Stored, config: Config) -> str:
    """Returns a line that says what a file is, and which network its weights belong to."""
    return f"{stored.kind}; {describe_network(stored.shapes, config)}"


def describe_network(shapes: Shapes, config: Config) -> str:
    """Returns a line that says what a network is.

    Args:
      shapes: {our path: shape} of its variables.
      config: its settings.
    """
    model = config.model
    parts = [f"ResNet-{model.resnet_depth} {model.width_multiplier:g}x"]
    if model.sk_ratio:
        parts.append(f"selective kernels (sk_ratio {model.sk_ratio:g})")
    if model.se_ratio:
        parts.append(f"squeeze-and-excitation (se_ratio {model.se_ratio:g})")
    if model.input_normalization != "none":
        parts.append(f"input_normalization {model.input_normalization}")
    parts.append(
        "small stem" if network_shapes.has_small_stem(shapes) else "stem for images above 32 pixels"
    )
    if model.max_pool_padding != "same" and not network_shapes.has_small_stem(shapes):
        parts.append(f"max_pool_padding {model.max_pool_padding}")
    if model.first_shortcut != "projection":
        parts.append(f"first_shortcut {model.first_shortcut}")
    layers = projection_widths(shapes)
    parts.append(
        f"projection head of {len(layers)} layers to {layers[-1]}"
        if layers
        else "no projection head"
    )
    bias = shapes.get(f"{SUPERVISED_HEAD}dense/bias")
    parts.append(f"{bias[0]} classes" if bias else "no supervised head")
    return ", ".join(parts)


def _projection_head(shapes: Shapes, config: Config) -> dict[str, Any]:
    schema, model = config.training.variable_schema or "", config.model
    widths = projection_widths({p: s for p, s in shapes.items() if re.match(schema, p)})
    if not widths and projection_widths(shapes):
        return {}  # variable_schema leaves the head out, so the run starts a new one
    pretrains = config.training.train_mode == "pretrain" and config.runtime.mode != "predict"
    if not widths:
        # Pretraining starts a new head. Everything else does without.
        values: dict[str, Any] = {} if pretrains else {"proj_head_mode": "none"}
    elif len(widths) == 1:
        is_single = model.proj_head_mode == "linear" or model.num_proj_layers == 1
        mode = model.proj_head_mode if is_single else "linear"
        values = {"proj_head_mode": mode, "proj_out_dim": widths[-1]}
    else:
        values = {
            "proj_head_mode": "nonlinear",
            "num_proj_layers": len(widths),
            "proj_out_dim": widths[-1],
        }
    return {name: value for name, value in values.items() if value != getattr(model, name)}


def _fit_selector(config: Config, shapes: Shapes, fixed: Collection[str]) -> Config:
    """Sets ft_proj_selector to a layer whose width is that of the supervised head's input."""
    kernel = shapes.get(f"{SUPERVISED_HEAD}dense/kernel")
    if kernel is None:
        return config
    features = max(s[-1] for p, s in shapes.items() if p.startswith("base_model/block_group4/"))
    widths = [features, *projection_widths(shapes)]
    selector = config.model.ft_proj_selector
    if -1 <= selector < len(widths) and widths[selector] == kernel[0]:
        return config
    if kernel[0] not in widths:
        raise Unrecognized(
            f"its supervised head takes {kernel[0]} features, and its layers have "
            f"{', '.join(map(str, widths))}"
        )
    if "ft_proj_selector" in fixed:
        raise Unrecognized(
            f"its supervised head takes {kernel[0]} features, and the layer of ft_proj_selector="
            f"{selector} has another width: leave --ft_proj_selector out, or"
        )
    return config.replace(ft_proj_selector=widths.index(kernel[0]))
