"""Rescales SimCLRv1's released weights to the scale of SimCLRv2's, without changing the outputs.

The two were pretrained with different weight decay, and the convolutions of SimCLRv1's ResNet-50
are on average 16.8 times as large as SimCLRv2's (README of google-research/simclr, "Known issues").
Batch normalization undoes the scale, so the outputs do not show it. Training does: a step of the
same size turns larger weights less, and weight decay weighs them more. LARS adapts to the scale,
the other optimizers need other learning rates and weight decays.
"""

import dataclasses
import re

import numpy as np

from tf_simclr.checkpoints.formats.stored import Stored
from tf_simclr.errors import ConfigError

FACTOR = 16.8
_EPSILON = 1e-5  # of every batch normalization, here and in the official code
_ENCODER_LAYER = re.compile(
    r"(base_model/.*)/(?:kernel|bn/gamma|bn/moving_mean|bn/moving_variance)"
)
_LAST_BLOCK = re.compile(r"base_model/block_group(\d)/block(\d+)/conv3/kernel")


def rescale_v1(stored: Stored, *, path: str) -> Stored:
    """Divides the encoder's kernels by FACTOR, and adapts the statistics of its normalizations.

    For a kernel divided by s, the moving mean is divided by s and the moving variance v by s**2.
    Normalization adds epsilon to the variance, which weighs s**2 times as much as before. To keep
    the outputs in inference equal up to rounding, gamma is multiplied by
    sqrt((v + s**2 * epsilon) / (v + epsilon)): nearly 1, except for channels of small variance.

    Args:
      stored: SimCLRv1's weights.
      path: the path that the user gave, for error messages.

    Returns:
      The same variables; kernels, moving averages and gammas of the encoder are rescaled.

    Raises:
      ConfigError: the weights are not those of a network that SimCLRv1 has released, or they were
        rescaled before.
    """
    if reason := _difference_from_v1(stored):
        raise ConfigError(
            "rescale_v1 is for SimCLRv1's released weights (ResNet-50 without selective kernels or "
            f"projection head), but {path!r} {reason}: leave --rescale_v1 out"
        )

    def read(name: str) -> np.ndarray:
        value = stored.read(name)
        match = _ENCODER_LAYER.fullmatch(name)
        if not match or f"{match[1]}/bn/moving_variance" not in stored.shapes:
            return value
        if name.endswith("/moving_variance"):
            return value / np.float32(FACTOR**2)
        if name.endswith("/gamma"):
            variance = stored.read(f"{match[1]}/bn/moving_variance").astype(np.float64)
            ratio = (variance + FACTOR**2 * _EPSILON) / (variance + _EPSILON)
            return (value * np.sqrt(ratio)).astype(value.dtype)
        return value / np.float32(FACTOR)

    note = (
        f"The encoder's kernels were divided by {FACTOR:g} (--rescale_v1). In inference the "
        "outputs stay the same, except for initial_conv."
    )
    return dataclasses.replace(stored, read=read, notes=(*stored.notes, note))


def _difference_from_v1(stored: Stored) -> str | None:
    """Says in which way weights are not those of SimCLRv1; None if they may be."""
    if not stored.kind.endswith("of the official code"):
        return f"is {stored.kind}: give the released file itself"
    blocks: dict[str, int] = {}
    for name in stored.shapes:
        if match := _LAST_BLOCK.fullmatch(name):
            blocks[match[1]] = max(blocks.get(match[1], 0), int(match[2]))
    if [blocks[group] for group in sorted(blocks)] != [3, 4, 6, 3]:
        return "is not a ResNet-50"
    for part, says in (("/sk/", "has selective kernels"), ("/se/", "has squeeze-and-excitation")):
        if any(part in name for name in stored.shapes):
            return says
    if any(name.startswith("head_contrastive/") for name in stored.shapes):
        return "has a projection head"
    return None
