"""Settings that a PyTorch file implies but does not show.

timm's downloads have a config.json beside the weights, which shows some of them.
"""

import json
import os
import re
from typing import Any, TypeGuard

from tf_simclr.errors import one_line
from tf_simclr.models.resnet import NORMALIZATIONS

CONFIG = "config.json"
MAX_BYTES = 2**20  # a config.json has a few thousand
_PLAIN = re.compile(r"(se|tv_)?resnet(18|34|50|101|152|200)")


def assume(path: str, *, small_stem: bool) -> tuple[dict[str, Any], list[str]]:
    """Returns the settings of a network from another program, and sentences that say why.

    Args:
      path: the file of its weights.
      small_stem: whether its stem is that of small images.
    """
    architecture, normalization = _read_config(os.path.dirname(path))
    name = next((kind for kind, values in NORMALIZATIONS.items() if values == normalization), None)
    notes = []
    if name is None:
        name = "cifar10" if small_stem else "imagenet"
        notes.append(
            "A PyTorch file does not say how its images were normalized. "
            f"input_normalization={name} is assumed. If that is wrong, give --input_normalization."
            if normalization is None
            else f"{CONFIG} says that images have mean {normalization[0]} and deviation "
            f"{normalization[1]}, which no input_normalization gives. {name} is used instead."
        )
    if small_stem:
        notes.append(
            "A PyTorch file does not say how its stem pads. One pixel and no max pooling are "
            "assumed. (solo-learn's stem for CIFAR pads by two pixels, so its outputs differ.)"
        )
    if architecture and not _PLAIN.fullmatch(architecture):
        notes.append(
            f"{CONFIG} calls the network {architecture[:100]!r}. It may differ from ours in layers "
            "without variables, such as another pooling."
        )
    return {"max_pool_padding": "symmetric", "input_normalization": name}, notes


def _read_config(directory: str) -> tuple[str | None, tuple[tuple, tuple] | None]:
    """Reads timm's config.json.

    Returns:
      The name of the architecture, and the mean and deviation of the images; None if the file is
      missing or of another kind.

    Raises:
      ValueError: the file is damaged.
      OSError: the file cannot be read.
    """
    path = os.path.join(directory, CONFIG)
    if not os.path.isfile(path) or os.path.getsize(path) > MAX_BYTES:
        return None, None
    with open(path, "rb") as file:
        try:
            content = json.loads(file.read(MAX_BYTES))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the {CONFIG} beside it is damaged: {one_line(error)}") from error
    if not isinstance(content, dict) or not isinstance(content.get("architecture"), str):
        return None, None
    inputs = content.get("pretrained_cfg", content)
    if isinstance(inputs, dict):
        mean, deviation = inputs.get("mean"), inputs.get("std")
        if _are_colors(mean) and _are_colors(deviation):
            return content["architecture"], (tuple(mean), tuple(deviation))
    return content["architecture"], None


def _are_colors(values: Any) -> TypeGuard[list]:
    """Returns whether JSON values are three numbers."""
    return (
        isinstance(values, list)
        and len(values) == 3
        and all(type(value) in (int, float) for value in values)
    )
