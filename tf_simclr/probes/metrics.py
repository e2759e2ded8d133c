"""Ranks of the right classes, accuracies, and which one a data set is judged by."""

import numpy as np

# Judged by the mean of the classes' accuracies (SimCLR paper, appendix B.8, after Kornblith et al.,
# arXiv:1805.08974); all others by the share of all images.
MEAN_PER_CLASS_DATASETS = ("fgvc_aircraft", "oxford_iiit_pet", "caltech101", "oxford_flowers102")

NEVER = 2**31  # the rank of a class that a classifier does not know


def metric_of(dataset: str) -> str:
    """ "top_1" or "mean_per_class": what the literature gives for a TFDS data set."""
    name = dataset.split("/")[0].split(":")[0]
    return "mean_per_class" if name in MEAN_PER_CLASS_DATASETS else "top_1"


def ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes score at least as high as the right one: 0 for a clear first.

    The right class is the worst among equals, as in `tf_simclr.ranks`.

    Args:
      scores: (n, classes).
      labels: (n,) numbers of the right classes. One that has no score gets the rank NEVER.

    Returns:
      Integers (n,).
    """
    known = labels < scores.shape[1]
    own = scores[np.arange(len(labels)), np.where(known, labels, 0)]
    at_least = np.count_nonzero(~(scores < own[:, None]), axis=1)
    return np.where(known, at_least - 1, NEVER)


def accuracies(
    ranks: np.ndarray, labels: np.ndarray, *, num_classes: int | None = None
) -> dict[str, float]:
    """top_1, top_5 and mean_per_class of the right classes' ranks (n,) and labels (n,).

    Only classes that occur count in mean_per_class.

    Args:
      num_classes: of the data set. There is no top_5 of fewer than five, where it would be 1
        whatever the classifier says.
    """
    first = ranks == 0
    per_class = [first[labels == label].mean() for label in np.unique(labels)]
    top_5 = {} if num_classes and num_classes < 5 else {"top_5": float((ranks < 5).mean())}
    return {"top_1": float(first.mean()), **top_5, "mean_per_class": float(np.mean(per_class))}
