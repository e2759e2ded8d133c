"""Draws test images with their nearest training images."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from sklearn.neighbors import NearestNeighbors  # noqa: E402

MAX_ROWS = 10
RIGHT, WRONG = "#2a9d4a", "#d1495b"


def nearest(train_features: np.ndarray, test_features: np.ndarray, count: int) -> np.ndarray:
    """Finds the training features nearest to each test feature.

    Nearest means the largest cosine similarity, as in the contrastive loss.

    Args:
      train_features: (n, d).
      test_features: (m, d).
      count: number of neighbors.

    Returns:
      Indices (m, count) into the training features.
    """
    search = NearestNeighbors(n_neighbors=count, metric="cosine").fit(train_features)
    return search.kneighbors(test_features, return_distance=False)


def share_of_hits(indices: np.ndarray, train_labels: np.ndarray, test_labels: np.ndarray) -> float:
    """Returns the share in [0, 1] of neighbors that have the class of their test image.

    Args:
      indices: (m, k), from `nearest`.
      train_labels: class indices (n,).
      test_labels: class indices (m,).
    """
    return float(np.mean(train_labels[indices] == test_labels[:, None]))


def figure(
    train_images: np.ndarray,
    train_labels: np.ndarray,
    test_images: np.ndarray,
    test_labels: np.ndarray,
    neighbors: dict[str, np.ndarray],
) -> Figure:
    """Draws a row for the first test image of each class: the image and its neighbors.

    Args:
      train_images: (n, h, w, 3) in [0, 1].
      train_labels: class indices (n,).
      test_images: (m, h, w, 3) in [0, 1].
      test_labels: class indices (m,).
      neighbors: {encoder's name: indices (m, k) into the training images}.

    Returns:
      The Figure. A green frame marks neighbors of the test image's class, a red frame marks other
      neighbors. The titles give the share of neighbors with a green frame over all test images.
    """
    shown = [np.flatnonzero(test_labels == label)[0] for label in np.unique(test_labels)]
    shown = shown[:MAX_ROWS]
    rows = len(shown)
    widths = [1] + [k for name in neighbors for k in (0.35, *[1] * neighbors[name].shape[1])]
    size = 0.62
    fig, axes = plt.subplots(
        rows,
        len(widths),
        figsize=(size * sum(widths) + 0.3, size * rows + 0.7),
        gridspec_kw={"width_ratios": widths, "wspace": 0.08, "hspace": 0.08},
        squeeze=False,
    )
    for axis in axes.flat:
        axis.set_axis_off()
    _title(axes[0, 0], "image")
    column = 1
    for name, indices in neighbors.items():
        share = share_of_hits(indices, train_labels, test_labels)
        middle = axes[0, column + 1 + indices.shape[1] // 2]
        title = f"nearest of {len(train_labels):,} by {name}"
        _title(middle, f"{title}: {100 * share:.0f}% of the same class")
        for row, test in enumerate(shown):
            _show(axes[row, 0], test_images[test])
            for rank, index in enumerate(indices[test]):
                is_hit = train_labels[index] == test_labels[test]
                axis = axes[row, column + 1 + rank]
                _show(axis, train_images[index], frame=RIGHT if is_hit else WRONG)
        column += 1 + indices.shape[1]
    fig.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.5 / (size * rows + 0.7))
    return fig


def _title(axis: Axes, text: str) -> None:
    axis.set_title(text, fontsize=9, pad=8)  # a row of seven images is as wide as its title


def _show(axis: Axes, image: np.ndarray, frame: str | None = None) -> None:
    axis.imshow(np.clip(image, 0, 1), interpolation="nearest")
    if frame:
        axis.set_axis_on()
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set(color=frame, linewidth=2)
