"""A picture of what an encoder takes for similar: test images and their nearest training images."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from sklearn.neighbors import NearestNeighbors  # noqa: E402

MAX_ROWS = 10
RIGHT, WRONG = "#2a9d4a", "#d1495b"


def nearest(train_features, test_features, count: int) -> np.ndarray:
    """Indices (m, count) of the training features (n, d) nearest to each test feature (m, d).

    By cosine similarity, the measure of the contrastive loss.
    """
    search = NearestNeighbors(n_neighbors=count, metric="cosine").fit(train_features)
    return search.kneighbors(test_features, return_distance=False)


def share_of_hits(indices: np.ndarray, train_labels, test_labels) -> float:
    """Returns the share in [0, 1] of neighbours that are of the class of their test image.

    Args:
      indices: (m, k) of `nearest`.
      train_labels: (n,) class numbers.
      test_labels: (m,).
    """
    return float(np.mean(train_labels[indices] == test_labels[:, None]))


def figure(train_images, train_labels, test_images, test_labels, neighbours: dict) -> Figure:
    """One row for the first test image of each class: the image, its neighbours by each encoder.

    Args:
      train_images: (n, h, w, 3) in [0, 1].
      train_labels: (n,) class numbers.
      test_images: (m, h, w, 3).
      test_labels: (m,).
      neighbours: {encoder's name: indices (m, k) into the training images}.

    Returns:
      The Figure. Neighbours of the test image's class have a green frame, others a red one; the
      titles say how many of all test images' neighbours are.
    """
    shown = [np.flatnonzero(test_labels == label)[0] for label in np.unique(test_labels)]
    shown = shown[:MAX_ROWS]
    rows = len(shown)
    widths = [1] + [k for name in neighbours for k in (0.35, *[1] * neighbours[name].shape[1])]
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
    for name, indices in neighbours.items():
        share = share_of_hits(indices, train_labels, test_labels)
        middle = axes[0, column + 1 + indices.shape[1] // 2]
        among = f"nearest of {len(train_labels):,} by {name}"
        _title(middle, f"{among}: {100 * share:.0f}% of the same class")
        for row, test in enumerate(shown):
            _show(axes[row, 0], test_images[test])
            for place, index in enumerate(indices[test]):
                same = train_labels[index] == test_labels[test]
                axis = axes[row, column + 1 + place]
                _show(axis, train_images[index], frame=RIGHT if same else WRONG)
        column += 1 + indices.shape[1]
    fig.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.5 / (size * rows + 0.7))
    return fig


def _title(axis, text: str):
    axis.set_title(text, fontsize=9, pad=8)  # a row of seven pictures is as wide as its title


def _show(axis, image, frame: str | None = None):
    axis.imshow(np.clip(image, 0, 1), interpolation="nearest")
    if frame:
        axis.set_axis_on()
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set(color=frame, linewidth=2)
