"""Warnings about pretraining that learns nothing or has collapsed.

The functions compute lines of text from figures. Healthy figures give no warnings. docs/monitor.md
has the figures of healthy and of collapsed runs from which the bounds follow.
"""

import math

MIN_STEPS = 100  # figures of fewer steps say little
MIN_EMBEDDING_STD = 0.1
MIN_RANKME = 4.0
CHANCE_MARGIN = 0.01

_WAYS_OUT = (
    "lower --temperature, enlarge --train_batch_size, raise --warmup_epochs or lower "
    "--learning_rate, strengthen the augmentation, and check the data"
)


def warnings(
    values: dict[str, float], *, contrast_loss: float | None, num_images: int
) -> dict[str, str]:
    """Returns {kind of warning: a line of text} for the figures of a measurement.

    Args:
      values: the figures of `monitor.figures`.
      contrast_loss: mean contrastive loss of the steps since the last measurement; None if unknown.
      num_images: number of images in a global batch.
    """
    texts = {
        "std": _spread(values),
        "rank": _rank(values),
        "chance": _chance(contrast_loss, num_images),
    }
    return {kind: text for kind, text in texts.items() if text}


def chance_level(num_images: int) -> float:
    """Returns the contrastive loss of equal projections, 2 log(2N - 1) for N images in nats."""
    return 2 * math.log(2 * num_images - 1)


def _spread(values: dict[str, float]) -> str | None:
    std = values.get("monitor/embedding_std")
    if std is None or std >= MIN_EMBEDDING_STD:
        return None
    return (
        f"The projections have collapsed: their standard deviation is {std:.2g} (1 if spread "
        f"evenly, below {MIN_EMBEDDING_STD} if nearly equal for all images): {_WAYS_OUT}"
    )


def _rank(values: dict[str, float]) -> str | None:
    rank = values.get("monitor/rankme")
    if rank is None or rank >= MIN_RANKME:
        return None
    return (
        f"The features have collapsed: their effective rank is {rank:.1f}, so all images lie along "
        f"a few directions (healthy runs have more than {MIN_RANKME:g}): {_WAYS_OUT}"
    )


def _chance(contrast_loss: float | None, num_images: int) -> str | None:
    chance = chance_level(num_images)
    if contrast_loss is None or contrast_loss < (1 - CHANCE_MARGIN) * chance:
        return None
    return (
        f"Nothing is learned: the contrastive loss is {contrast_loss:.3f}, and {chance:.3f} is its "
        f"chance level, 2 log(2 * {num_images} - 1), at which no view is recognized: {_WAYS_OUT}"
    )
