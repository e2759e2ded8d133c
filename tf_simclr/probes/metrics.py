"""Accuracies of ranked classes, and which one a data set is judged by."""

import numpy as np

# Judged by the mean of the classes' accuracies (SimCLR paper, appendix B.8, after Kornblith et al.,
# arXiv:1805.08974); all others by the share of all images.
MEAN_PER_CLASS_DATASETS = ("fgvc_aircraft", "oxford_iiit_pet", "caltech101", "oxford_flowers102")


def metric_of(dataset: str) -> str:
    """"top_1" or "mean_per_class": what the literature gives for a TFDS data set."""
    name = dataset.split("/")[0].split(":")[0]
    return "mean_per_class" if name in MEAN_PER_CLASS_DATASETS else "top_1"


def ranking(scores: np.ndarray, count: int = 5) -> np.ndarray:
    """The classes of the highest scores (n, classes), best first: (n, min(count, classes))."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]


def accuracies(ranked: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """top_1, top_5 and mean_per_class of ranked classes (n, k) and labels (n,).

    top_5 is 1 where there are no more than five classes. Only classes that occur count.
    """
    hits = ranked == labels[:, None]
    first = hits[:, 0]
    per_class = [first[labels == label].mean() for label in np.unique(labels)]
    return {
        "top_1": float(first.mean()),
        "top_5": float(hits[:, :5].any(axis=1).mean()),
        "mean_per_class": float(np.mean(per_class)),
    }
