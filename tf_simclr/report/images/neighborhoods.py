"""Finds the nearest neighbors of images by several encoders, and how many have their class."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tf_simclr.errors import ConfigError
from tf_simclr.probes import neighbors
from tf_simclr.report.content import Neighbors
from tf_simclr.report.images import thumbnails
from tf_simclr.report.images.image_sets import ImageSet

COUNT = 7  # neighbors of a query
RANDOM_QUERIES = 6
THUMBNAIL_BUDGET = 400_000  # bytes


@dataclasses.dataclass(frozen=True)
class Found:
    """The nearest training images of all test images.

    Attributes:
      train: the images that were searched.
      test: the images whose neighbors were searched.
      nearest: {encoder's title: int (m, k), indices into train, the nearest first}.
    """

    train: ImageSet
    test: ImageSet
    nearest: Mapping[str, np.ndarray]

    @property
    def num_neighbors(self) -> int:
        """Returns k."""
        return next(iter(self.nearest.values())).shape[1]

    @property
    def searched(self) -> str:
        """Describes what was searched, e.g. "10,000 training images"."""
        part = "" if len(self.train) == self.train.total else f" of {self.train.total:,}"
        if self.train.split == self.test.split:
            return f"the other {len(self.train) - 1:,}{part} images of split {self.train.split}"
        return f"{len(self.train):,}{part} training images"

    def hits(self, rows: np.ndarray) -> dict[str, np.ndarray] | None:
        """Returns whether neighbors have the class of their test image; None without labels.

        Args:
          rows: indices of test images, int (q,).

        Returns:
          {encoder's title: bool (q, k)}.
        """
        if not (self.test.has_labels and self.train.has_labels):
            return None
        labels = self.test.labels[rows, None]
        return {
            title: self.train.labels[indices[rows]] == labels
            for title, indices in self.nearest.items()
        }

    def precision(self) -> dict[str, float]:
        """Returns {encoder's title: share of hits over all test images}; {} without labels."""
        if not (self.test.has_labels and self.train.has_labels):
            return {}
        return {
            title: neighbors.share_of_hits(indices, self.train.labels, self.test.labels)
            for title, indices in self.nearest.items()
        }


def itself(train: ImageSet, test: ImageSet) -> np.ndarray | None:
    """Finds the test images among the training images, by name.

    Returns:
      int (m,), their indices, -1 for none; None if no test image is among them.
    """
    rows = {name: row for row, name in enumerate(train.names)}
    found = np.array([rows.get(name, -1) for name in test.names], np.int64)
    return found if (found >= 0).any() else None


def search(
    train: ImageSet, test: ImageSet, titles: Mapping[str, str], *, count: int = COUNT
) -> Found | None:
    """Searches the training images nearest to each test image, by cosine similarity.

    With labels, images without one are left out of both. An image is never its own neighbor.

    Args:
      train: the images to search.
      test: the images whose neighbors are wanted.
      titles: {encoder's name in the features: its title}.
      count: number of neighbors; at most the number of training images.

    Returns:
      The neighbors; None if there is no image to search.
    """
    if train.has_labels and test.has_labels:
        train, test = train.labeled(), test.labeled()
    own = itself(train, test)
    count = min(count, len(train) - (own is not None))
    if count < 1:
        return None
    nearest = {}
    for name, title in titles.items():
        indices = neighbors.nearest(
            train.features.matrix(name),
            test.features.matrix(name),
            count + (own is not None),
        )
        nearest[title] = indices if own is None else _without(indices, own)
    return Found(train, test, nearest)


def _without(indices: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Removes each row's own index from (m, k + 1), or the last index if it is not there."""
    is_own = indices == own[:, None]
    is_own[~is_own.any(axis=1), -1] = True
    return indices[~is_own].reshape(len(indices), -1)


def choose_queries(
    test: ImageSet,
    *,
    wanted: Sequence[str] = (),
    num_random: int = RANDOM_QUERIES,
    per_class: bool = True,
    seed: int = 0,
) -> np.ndarray:
    """Chooses images to show: the wanted ones, one of each class, and random ones.

    Args:
      test: the images, after `search` has left out those without a label.
      wanted: names of images.
      num_random: number of random images.
      per_class: whether to choose the first image of each class (`neighbors.one_per_class`).
      seed: seed of the random images.

    Returns:
      Different indices, int (q,).

    Raises:
      ConfigError: a wanted image is missing, because it cannot be decoded or has no label.
    """
    rows = {name: row for row, name in enumerate(test.names)}
    if missing := [name for name in wanted if name not in rows]:
        raise ConfigError(
            f"query {missing[0]!r} cannot be decoded, or has no label while others have one: "
            "choose another image"
        )
    chosen = [rows[name] for name in wanted]
    if per_class and test.has_labels:
        chosen += neighbors.one_per_class(test.labels).tolist()
    chosen = list(dict.fromkeys(chosen))
    others = np.setdiff1d(np.arange(len(test)), chosen)
    drawn = np.random.default_rng(seed).permutation(others)[:num_random]
    return np.array([*chosen, *drawn], np.int64)


def content(
    found: Found,
    queries: np.ndarray,
    class_names: Sequence[str] | None,
    *,
    budget: int = THUMBNAIL_BUDGET,
) -> Neighbors:
    """Describes the neighbors of some images, with thumbnails.

    Args:
      found: the neighbors of all test images.
      queries: indices of the test images to show, int (q,).
      class_names: names of the classes; None without labels.
      budget: largest number of bytes of the thumbnails.
    """
    nearest = np.stack([indices[queries] for indices in found.nearest.values()])
    # Thumbnails of the queries come first, then those of all their neighbors, each one once.
    shown, places = np.unique(nearest, return_inverse=True)
    test, train = found.test.take(queries), found.train.take(shown)
    names = [_name(part, row, class_names) for part in (test, train) for row in range(len(part))]
    hits = found.hits(queries)
    return Neighbors(
        encoders=tuple(found.nearest),
        num_neighbors=found.num_neighbors,
        precision=tuple(found.precision().values()),
        searched=found.searched,
        queries=np.arange(len(queries)),
        nearest=len(queries) + places.reshape(nearest.shape),
        hits=None if hits is None else np.stack(list(hits.values())),
        names=tuple(names),
        thumbnails=thumbnails.pack(
            np.concatenate([test.thumbnails, train.thumbnails]), side=64, budget=budget
        ),
    )


def _name(images: ImageSet, row: int, class_names: Sequence[str] | None) -> str:
    label = images.labels[row]
    if class_names is None or label < 0:
        return images.names[row]
    return f"{images.names[row]} ({class_names[label]})"
