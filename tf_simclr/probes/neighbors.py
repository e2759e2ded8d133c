"""Finds the training images nearest to test images, and draws them."""

import dataclasses
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from sklearn.neighbors import NearestNeighbors  # noqa: E402

MAX_ROWS = 10
RIGHT, WRONG = "#2a9d4a", "#d1495b"


@dataclasses.dataclass(frozen=True)
class Block:
    """The columns of one encoder in a picture.

    Attributes:
      title: text above the columns.
      images: the neighbors of each query, (q, k, h, w, 3) in [0, 1].
      hits: bool (q, k), whether a neighbor has the query's class; None draws no frames.
    """

    title: str
    images: np.ndarray
    hits: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Frames:
    """The colors of the frames around neighbors.

    Attributes:
      right: color around neighbors of the query's class.
      wrong: color around others; None for no frame.
    """

    right: str = RIGHT
    wrong: str | None = WRONG


GREEN_AND_RED = Frames()
BLUE_OR_NONE = Frames("#0072b2", None)  # for any color vision, and for print without colors


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


def one_per_class(labels: np.ndarray, *, limit: int = MAX_ROWS) -> np.ndarray:
    """Returns the index of the first image of each class, for the first `limit` classes.

    Args:
      labels: class indices (n,); a negative one means that the image has no label.
      limit: number of classes.
    """
    classes = np.unique(labels[labels >= 0])[:limit]
    return np.array([np.flatnonzero(labels == label)[0] for label in classes], np.int64)


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
    shown = one_per_class(test_labels)
    blocks = []
    for name, indices in neighbors.items():
        share = share_of_hits(indices, train_labels, test_labels)
        title = f"nearest of {len(train_labels):,} by {name}: {100 * share:.0f}% of the same class"
        hits = train_labels[indices[shown]] == test_labels[shown, None]
        blocks.append(Block(title, train_images[indices[shown]], hits))
    return grid(test_images[shown], blocks)


def grid(queries: np.ndarray, blocks: Sequence[Block], *, frames: Frames = GREEN_AND_RED) -> Figure:
    """Draws a row for each query: the query, and its neighbors in each block.

    Args:
      queries: (q, h, w, 3) in [0, 1].
      blocks: the neighbors by each encoder.
      frames: the frames around neighbors.
    """
    rows = len(queries)
    widths = [1] + [w for block in blocks for w in (0.35, *[1] * block.images.shape[1])]
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
    for block in blocks:
        count = block.images.shape[1]
        _title(axes[0, column + 1 + count // 2], block.title)
        for row in range(rows):
            for rank in range(count):
                axis = axes[row, column + 1 + rank]
                _show(axis, block.images[row, rank])
                if block.hits is not None:
                    _frame(axis, frames.right if block.hits[row, rank] else frames.wrong)
        column += 1 + count
    for row in range(rows):
        _show(axes[row, 0], queries[row])
    fig.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.5 / (size * rows + 0.7))
    return fig


def _title(axis: Axes, text: str) -> None:
    axis.set_title(text, fontsize=9, pad=8)  # a row of seven images is as wide as its title


def _show(axis: Axes, image: np.ndarray) -> None:
    axis.imshow(np.clip(image, 0, 1), interpolation="nearest")


def _frame(axis: Axes, color: str | None) -> None:
    if color is None:
        return
    axis.set_axis_on()
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set(color=color, linewidth=2)
