"""Finds the settings of a network in the shapes of its variables."""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tf_simclr.config import Config, settings
from tf_simclr.models.resnet import BLOCKS_PER_GROUP, BOTTLENECK_DEPTHS
from tf_simclr.models.simclr import SMALL_STEM_MAX_IMAGE_SIZE

Shapes = Mapping[str, tuple[int, ...]]
_STEM = "base_model/stem/conv/kernel"
_BLOCK = re.compile(r"base_model/block_group(\d)/block(\d+)/(.*)")
_HEAD = re.compile(r"head_contrastive/layer(\d+)/dense/kernel")
_SIMCLRV2_SK_RATIO = 0.0625


class Unrecognized(ValueError):
    """Says why shapes are not those of a network that this package can build."""


def backbone_settings(shapes: Shapes, config: Config) -> dict[str, Any]:
    """Returns the settings of the backbone that do not fit the shapes, {name: value that fits}.

    Args:
      shapes: {our path: shape} of all variables.
      config: the settings to compare with.

    Raises:
      Unrecognized: this package cannot build such a network.
      IndexError, KeyError, ZeroDivisionError: the shapes are not those of a ResNet.
    """
    model = config.model
    kernels, blocks = _kernels_of_blocks(shapes)
    counts = tuple(blocks[group] for group in sorted(blocks))
    is_bottleneck = (1, 1, "conv3") in kernels
    depths = [
        depth
        for depth, blocks_per_group in BLOCKS_PER_GROUP.items()
        if blocks_per_group == counts and (depth in BOTTLENECK_DEPTHS) == is_bottleneck
    ]
    if not depths:
        kind = "bottleneck" if is_bottleneck else "basic"
        raise Unrecognized(f"no ResNet has {counts} {kind} blocks in its groups")
    widths = [kernels[group, 1, "conv1"][-1] for group in (1, 2, 3, 4)]
    values = {
        "resnet_depth": model.resnet_depth if model.resnet_depth in depths else depths[0],
        "width_multiplier": _fitting(
            (model.width_multiplier, widths[3] / 512),
            lambda width: [int(64 * 2**i * width) for i in range(4)] == widths,
            "its block groups have " + ", ".join(map(str, widths)) + " channels",
        ),
        "sk_ratio": _sk_ratio(shapes, kernels, model.sk_ratio),
        "se_ratio": _se_ratio(kernels, model.se_ratio),
        "first_shortcut": _first_shortcut(kernels, is_bottleneck),
        "image_size": _image_size(shapes, config),
    }
    return {name: value for name, value in values.items() if value != config.to_dict()[name]}


def _kernels_of_blocks(
    shapes: Shapes,
) -> tuple[dict[tuple[int, int, str], tuple[int, ...]], dict[int, int]]:
    """Returns {(group, block, layer): shape} of all kernels, and {group: number of blocks}."""
    kernels: dict[tuple[int, int, str], tuple[int, ...]] = {}
    blocks: dict[int, int] = defaultdict(int)
    for path, shape in shapes.items():
        if match := _BLOCK.fullmatch(path):
            group, block = int(match[1]), int(match[2])
            blocks[group] = max(blocks[group], block)
            if match[3].endswith("/kernel"):
                kernels[group, block, match[3].removesuffix("/kernel")] = shape
    return kernels, blocks


def _fitting(values: Iterable[float], fits: Callable[[float], bool], why: str) -> float:
    """Returns the first value that fits.

    Raises:
      Unrecognized: none fits.
    """
    for value in values:
        if fits(value):
            return value
    raise Unrecognized(f"{why}, which no setting gives")


def _sk_ratio(shapes: Shapes, kernels: Mapping, current: float) -> float:
    # Pairs of a block's width and the width of its bottleneck.
    pairs = {
        (kernels[group, block, "sk/expand"][-1] // 2, shape[-1])
        for (group, block, layer), shape in kernels.items()
        if layer == "sk/reduce"
    }
    if not pairs:
        # Basic blocks have no selective kernels, but sk_ratio still changes their stem.
        has_deep_stem = "base_model/stem/conv1/kernel" in shapes
        return (current or _SIMCLRV2_SK_RATIO) if has_deep_stem else 0.0
    # A bottleneck has at least 32 channels, so 32 only says that the ratio is small.
    largest = min(_SIMCLRV2_SK_RATIO, 32 / max(f for f, _ in pairs))
    candidate = max((r / f for f, r in pairs if r > 32), default=largest)
    return _fitting(
        (current or candidate, candidate, math.nextafter(candidate, 1)),
        lambda ratio: all(max(int(f * ratio), 32) == r for f, r in pairs),
        f"its selective kernels have bottlenecks of {sorted(r for _, r in pairs)} channels",
    )


def _se_ratio(kernels: Mapping, current: float) -> float:
    pairs = {
        (kernels[group, 1, "conv1"][-1], shape[-1])
        for (group, _, layer), shape in kernels.items()
        if layer == "se/reduce"
    }
    if not pairs:
        return 0.0
    # A bottleneck of one channel only says that the ratio is small.
    candidate = max((r / f for f, r in pairs if r > 1), default=1 / max(f for f, _ in pairs))
    return _fitting(
        (current or candidate, candidate, math.nextafter(candidate, 1)),
        lambda ratio: all(max(1, int(f * ratio)) == r for f, r in pairs),
        f"its squeeze-and-excitation has bottlenecks of {sorted(r for _, r in pairs)} channels",
    )


def _first_shortcut(kernels: Mapping, is_bottleneck: bool) -> str:
    is_identity = not is_bottleneck and (1, 1, "shortcut") not in kernels
    return "identity" if is_identity else "projection"


def has_small_stem(shapes: Shapes) -> bool:
    """Returns whether a stem is that of images up to 32 pixels."""
    return shapes[_STEM][0] == 3 and "base_model/stem/conv1/kernel" not in shapes


def _image_size(shapes: Shapes, config: Config) -> int:
    """Returns the image size, which selects the stem.

    Only the default changes: another image size is a decision of the user.
    """
    size, is_small = config.data.image_size, has_small_stem(shapes)
    if (size <= SMALL_STEM_MAX_IMAGE_SIZE) == is_small:
        return size
    if is_small and size == settings()["image_size"].default:
        return SMALL_STEM_MAX_IMAGE_SIZE
    stem, way_out = ("small images", "32 or less") if is_small else ("larger images", "33 or more")
    raise Unrecognized(f"its stem is that of {stem}: image_size must be {way_out}, got {size}")


def projection_widths(shapes: Shapes) -> list[int]:
    """Returns the output widths of the projection head's layers, in order."""
    widths = {
        int(match[1]): shape[-1]
        for path, shape in shapes.items()
        if (match := _HEAD.fullmatch(path))
    }
    return [widths[layer] for layer in sorted(widths)]
