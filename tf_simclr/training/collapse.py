"""Warnings about pretraining that learns nothing or has collapsed.

The functions compute lines of text from figures. Healthy figures give no warnings.

The bounds follow from runs of ResNet-18 of width 0.25 on shapes and CIFAR-10, with batches of 16 to
128 images and temperatures of 0.3 to 1, and from collapsed runs:

- embedding_std is 0.35 to 0.99 in healthy runs after the warm-up, and 0 if all projections are
  equal. During the warm-up it may be as low as 0.05, because the moving averages of batch
  normalization lag behind.
- The effective rank is 20 or more for features, and 7 to 70 for projections. Without negatives, the
  batch normalization at the end of the projection head keeps embedding_std above 0.4, but the
  projections collapse to a line: their rank is 1.5 to 1.7.
- At temperature 100, the loss stays within 0.03% of its chance level. In healthy runs it falls more
  than 1% below it, but a slow run may need longer than MIN_STEPS. The warning therefore says "so
  far". During the warm-up, the projections may be worse than chance.
"""

import math
from collections.abc import Mapping

MIN_STEPS = 100  # after the warm-up; figures of fewer steps say little
MIN_EMBEDDING_STD = 0.1
MIN_RANK = 3.0
CHANCE_MARGIN = 0.01

_RANKS = {"monitor/rankme": "features", "monitor/rankme_projections": "projections"}
_WAYS_OUT = (
    "lower --temperature, enlarge --train_batch_size, raise --warmup_epochs or lower "
    "--learning_rate, strengthen the augmentation, and check the data"
)


def warnings(
    values: Mapping[str, float],
    *,
    contrast_loss: float | None,
    num_images: int,
    max_ranks: Mapping[str, int],
) -> dict[str, str]:
    """Returns {kind of warning: a line of text} for the figures of a measurement.

    Args:
      values: the figures of `monitor.figures`.
      contrast_loss: mean contrastive loss of the steps since the last measurement; None if unknown.
      num_images: number of images in a global batch.
      max_ranks: {tag: the largest value that an effective rank could have}.
    """
    texts = {"std": _spread(values), "chance": _chance(contrast_loss, num_images)}
    texts |= {tag: _rank(tag, values, max_ranks) for tag in _RANKS}
    return {kind: text for kind, text in texts.items() if text}


def chance_level(num_images: int) -> float:
    """Returns the contrastive loss of equal projections, 2 log(2N - 1) for N images, in nats."""
    return 2 * math.log(2 * num_images - 1)


def _spread(values: Mapping[str, float]) -> str | None:
    std = values.get("monitor/embedding_std")
    if std is None or std >= MIN_EMBEDDING_STD:
        return None
    return (
        f"The projections have collapsed to a point: their standard deviation is {std:.2g}, and 1 "
        f"would be spread evenly: {_WAYS_OUT}"
    )


def _rank(tag: str, values: Mapping[str, float], max_ranks: Mapping[str, int]) -> str | None:
    # A rank that cannot be much higher is no sign of a collapse, as with --proj_out_dim=2.
    rank, bound = values.get(tag), min(MIN_RANK, max_ranks.get(tag, 0) / 4)
    if rank is None or rank >= bound:
        return None
    return (
        f"The {_RANKS[tag]} have collapsed to a few directions: their effective rank is {rank:.1f} "
        f"of at most {max_ranks[tag]}: {_WAYS_OUT}"
    )


def _chance(contrast_loss: float | None, num_images: int) -> str | None:
    chance = chance_level(num_images)
    if contrast_loss is None or contrast_loss < (1 - CHANCE_MARGIN) * chance:
        return None
    return (
        f"Nothing is learned so far: the contrastive loss is {contrast_loss:.3f}, and its chance "
        f"level, 2 log(2 * {num_images} - 1), is {chance:.3f}: {_WAYS_OUT}"
    )
