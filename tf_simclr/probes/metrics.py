"""Ranks of the right classes, accuracies, and the metric that a data set is judged by."""

import numpy as np

# These are judged by the mean of the classes' accuracies (SimCLR paper, appendix B.8, after
# Kornblith et al., arXiv:1805.08974). All others are judged by the accuracy over all images.
MEAN_PER_CLASS_DATASETS = ("fgvc_aircraft", "oxford_iiit_pet", "caltech101", "oxford_flowers102")

NEVER = 2**31  # the rank of a class that a classifier does not know


def metric_for(dataset: str) -> str:
    """Returns "top_1" or "mean_per_class", whichever the literature reports for a TFDS data set."""
    name = dataset.split("/")[0].split(":")[0]
    return "mean_per_class" if name in MEAN_PER_CLASS_DATASETS else "top_1"


def ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Counts the other classes that score at least as high as the right one: 0 means first.

    The right class counts as the last of those with an equal score, as in `tf_simclr.ranks`.

    Args:
      scores: (n, classes).
      labels: numbers of the right classes (n,). A class that has no score gets the rank NEVER.

    Returns:
      Integers (n,).
    """
    known = labels < scores.shape[1]
    label_scores = scores[np.arange(len(labels)), np.where(known, labels, 0)]
    # `>=` would be wrong: NaN must count as higher.
    num_at_least = np.count_nonzero(~(scores < label_scores[:, None]), axis=1)
    return np.where(known, num_at_least - 1, NEVER)


def accuracies(
    ranks: np.ndarray, labels: np.ndarray, *, num_classes: int | None = None
) -> dict[str, float]:
    """Computes accuracies from the ranks of the right classes.

    Args:
      ranks: of the right classes (n,), from `ranks`.
      labels: numbers of the right classes (n,).
      num_classes: number of classes in the data set. With fewer than five there is no top_5, which
        would always be 1.

    Returns:
      top_1, top_5 and mean_per_class. The last is the mean over the classes that occur.
    """
    first = ranks == 0
    per_class = [first[labels == label].mean() for label in np.unique(labels)]
    top_5 = {} if num_classes and num_classes < 5 else {"top_5": float((ranks < 5).mean())}
    return {"top_1": float(first.mean()), **top_5, "mean_per_class": float(np.mean(per_class))}
