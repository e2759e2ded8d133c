"""Ranks of the correct classes, accuracies, and the metric reported for each data set."""

import numpy as np

# For these the mean of the per-class accuracies is reported (SimCLR paper, appendix B.8, after
# Kornblith et al., arXiv:1805.08974). For other data sets it is the accuracy over all images.
MEAN_PER_CLASS_DATASETS = ("fgvc_aircraft", "oxford_iiit_pet", "caltech101", "oxford_flowers102")

NEVER = 2**31  # the rank of a class that a classifier does not know


def metric_for(dataset: str) -> str:
    """Returns the metric that the literature reports for a TFDS data set.

    It is "top_1" or "mean_per_class".
    """
    name = dataset.split("/")[0].split(":")[0]
    return "mean_per_class" if name in MEAN_PER_CLASS_DATASETS else "top_1"


def ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Counts the other classes that score at least as high as the correct class: 0 means first.

    Ties count against the correct class, as in `tf_simclr.ranks`.

    Args:
      scores: (n, classes).
      labels: indices of the correct classes (n,). A class that has no score gets the rank NEVER.

    Returns:
      Integers (n,).
    """
    known = labels < scores.shape[1]
    label_scores = scores[np.arange(len(labels)), np.where(known, labels, 0)]
    # Not `>=`, because NaN must count as higher.
    num_at_least = np.count_nonzero(~(scores < label_scores[:, None]), axis=1)
    return np.where(known, num_at_least - 1, NEVER)


def accuracies(
    ranks: np.ndarray, labels: np.ndarray, *, num_classes: int | None = None
) -> dict[str, float]:
    """Computes accuracies from the ranks of the correct classes.

    Args:
      ranks: ranks of the correct classes (n,), from `ranks`.
      labels: indices of the correct classes (n,).
      num_classes: number of classes in the data set. With fewer than five, top_5 is left out,
        because it would always be 1.

    Returns:
      top_1, top_5 and mean_per_class, the mean over the classes that occur in labels.
    """
    first = ranks == 0
    per_class = [first[labels == label].mean() for label in np.unique(labels)]
    top_5 = {} if num_classes and num_classes < 5 else {"top_5": float((ranks < 5).mean())}
    return {"top_1": float(first.mean()), **top_5, "mean_per_class": float(np.mean(per_class))}
