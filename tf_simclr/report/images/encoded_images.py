"""Shows on images what the encoder of a run has learned."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tf_simclr.errors import ConfigError
from tf_simclr.probes.features import PRETRAINED, RAW_PIXELS, UNTRAINED
from tf_simclr.report.content import Confusion, EmbeddingMap, Images, Neighbors
from tf_simclr.report.images import confusion, embedding_map, neighborhoods, thumbnails
from tf_simclr.report.images.image_sets import MAX_IMAGES, ImageSet

# {encoder's name in the features: its title}, in the order of the report.
TITLES = {
    RAW_PIXELS: "raw pixels",
    UNTRAINED: "before training",
    PRETRAINED: "after training",
}
MAX_ON_MAP = 2_000  # images


@dataclasses.dataclass(frozen=True)
class Options:
    """What to show.

    Attributes:
      max_on_map: largest number of images on the map. More are sampled at random.
      method: method of the map (`embedding_map.METHODS`).
      queries: names of images whose neighbors are shown, beside one of each class.
      num_random: number of random images whose neighbors are shown.
      num_neighbors: number of neighbors of each.
      seed: seed of all random choices.
      map_bytes: largest number of bytes of the map's thumbnails.
    """

    max_on_map: int = MAX_ON_MAP
    method: str = "auto"
    queries: tuple[str, ...] = ()
    num_random: int = neighborhoods.RANDOM_QUERIES
    num_neighbors: int = neighborhoods.COUNT
    seed: int = 0
    map_bytes: int = thumbnails.DEFAULT_BUDGET


DEFAULTS = Options()


def summarize(
    train: ImageSet | None,
    test: ImageSet,
    class_names: Sequence[str] | None,
    *,
    checkpoint: str,
    dataset: str,
    nearest: Mapping[str, np.ndarray] | None = None,
    options: Options = DEFAULTS,
) -> tuple[Images, list[str]]:
    """Makes the part of a report that shows images.

    `run_images.summarize` opens a run, encodes its images and calls this function. At the end of a
    training run, modes/probe_summary has the features already.

    Args:
      train: the images to search for neighbors. Only the first 10,000 are searched, as in
        modes/probe_summary. None leaves the neighbors and the vote out: give None if its split
        overlaps with that of test, but is not the same (`image_sets.overlap`).
      test: the images on the map, whose neighbors are searched and whose classes are predicted. At
        most 10,000 of them are used, chosen at random.
      class_names: names of the classes that labels and predictions index; None without labels.
      checkpoint: the path of the encoder's weights.
      dataset: name of the data set.
      nearest: {encoder's name: int (m, k), indices into the first 10,000 training images}: the
        neighbors, if they are known already; None searches them.
      options: what to show.

    Returns:
      The content of the report, and notes: texts that say what was left out, and why. The features
      may have any of the encoders of TITLES, and the confusions come from the supervised head if
      the features have its predictions. A part that would show figures of features that are not
      finite is left out.

    Raises:
      ConfigError: options.method cannot be used, or a query is not among the test images.
    """
    embedding_map.check_method(options.method)
    notes: list[str] = []
    test_rows = test.sample(MAX_IMAGES, seed=options.seed)
    if nearest is not None:
        nearest = {name: indices[test_rows] for name, indices in nearest.items()}
    test = test.take(test_rows)
    train = None if train is None else train.take(np.arange(min(len(train), MAX_IMAGES)))
    if class_names is not None and not test.has_labels:
        class_names = None
        notes.append(f"No image of split {test.split} has a label: the map shows clusters.")
    titles = finite_encoders(train, test, notes)
    if test.features.skipped:
        notes.append(f"{test.features.skipped:,} images of split {test.split} cannot be decoded.")
    mapped = neighbors = confusions = None
    if PRETRAINED in titles:
        mapped = make_map(test, class_names, options=options)
        if embedding_map.is_constant(test.features.matrix(PRETRAINED)):
            notes.append("The embeddings of all images are the same: the encoder has collapsed.")
        neighbors = _neighbors(train, test, class_names, titles, nearest, options, notes)
        if class_names is not None:
            confusions = _confusion(train, test.labeled(), class_names, notes)
    description = f"{dataset}, split {test.split}: {test.describe()}"
    return Images(checkpoint, description, mapped, neighbors, confusions), notes


def make_map(
    images: ImageSet, class_names: Sequence[str] | None, *, options: Options = DEFAULTS
) -> EmbeddingMap:
    """Makes the map of the trained encoder's features.

    Args:
      images: the images; more than options.max_on_map are sampled.
      class_names: names of the classes; None, or no image with a label, groups by cluster.
      options: what to show.
    """
    images = images.take(images.sample(options.max_on_map, seed=options.seed))
    features = images.features.matrix(PRETRAINED)
    coordinates, method = embedding_map.layout(features, method=options.method, seed=options.seed)
    groups, names, grouped_by = group(images, class_names, seed=options.seed)
    return EmbeddingMap(
        method=method,
        coordinates=coordinates,
        groups=groups,
        group_names=names,
        grouped_by=grouped_by,
        names=images.names,
        thumbnails=thumbnails.pack(images.thumbnails, budget=options.map_bytes),
    )


def group(
    images: ImageSet, class_names: Sequence[str] | None, *, seed: int = 0
) -> tuple[np.ndarray, tuple[str, ...], str]:
    """Groups images by class, or by cluster if none has a label.

    Returns:
      int (n,), indices into the names, -1 for none; the names of the groups that occur; "class" or
      "cluster".
    """
    if class_names is None or not images.has_labels:
        features = images.features.matrix(PRETRAINED)
        return *embedding_map.clusters(features, seed=seed), "cluster"
    classes = np.unique(images.labels[images.labels >= 0])
    groups = np.where(images.labels >= 0, np.searchsorted(classes, images.labels), -1)
    return groups, tuple(class_names[label] for label in classes), "class"


def finite_encoders(train: ImageSet | None, test: ImageSet, notes: list[str]) -> dict[str, str]:
    """Returns the encoders of TITLES that have only finite features, {name: title}.

    Args:
      train: images; None for none.
      test: other images.
      notes: receives a text for each encoder that is left out.
    """
    parts = [part.features for part in (train, test) if part is not None]
    titles = {name: title for name, title in TITLES.items() if name in test.features.arrays}
    for name, title in list(titles.items()):
        if not all(np.isfinite(part.matrix(name)).all() for part in parts):
            del titles[name]
            notes.append(f"Features {title} are left out, because some are not finite numbers.")
    return titles


def finite_matrix(images: ImageSet, name: str) -> np.ndarray:
    """Returns the features of one encoder, float32 (n, d).

    Raises:
      ConfigError: some are not finite numbers.
    """
    features = images.features.matrix(name)
    if not np.isfinite(features).all():
        raise ConfigError(
            "model_dir has an encoder whose features are not finite numbers: its training has "
            "failed; name an earlier checkpoint"
        )
    return features


def _neighbors(
    train: ImageSet | None,
    test: ImageSet,
    class_names: Sequence[str] | None,
    titles: Mapping[str, str],
    nearest: Mapping[str, np.ndarray] | None,
    options: Options,
    notes: list[str],
) -> Neighbors | None:
    if train is None:
        return None
    found: neighborhoods.Found | None
    if nearest is not None and neighborhoods.itself(train, test) is None:
        by_title = {title: nearest[name] for name, title in titles.items() if name in nearest}
        found = neighborhoods.Found(train, test, by_title)
    else:
        found = neighborhoods.search(train, test, titles, count=options.num_neighbors)
    if found is None:
        notes.append("Neighbors are left out, because there is no other image to search.")
        return None
    queries = neighborhoods.choose_queries(
        found.test, wanted=options.queries, num_random=options.num_random, seed=options.seed
    )
    return neighborhoods.content(found, queries, class_names)


def _confusion(
    train: ImageSet | None, test: ImageSet, class_names: Sequence[str], notes: list[str]
) -> Confusion | None:
    """Counts confusions of the supervised head, otherwise of a vote of neighbors."""
    predictions = test.features.predictions
    if predictions is not None:
        if (predictions >= 0).all():
            return confusion.count(
                test.labels, predictions, class_names, classifier="supervised head"
            )
        notes.append("The supervised head's confusions are left out: its logits are not finite.")
    if train is None or not train.has_labels:
        return None
    train = train.labeled()
    own = neighborhoods.itself(train, test)
    if len(train) == 1 and own is not None:
        return None
    return confusion.by_vote(
        train.features.matrix(PRETRAINED),
        train.labels,
        test.features.matrix(PRETRAINED),
        test.labels,
        class_names,
        itself=own,
    )
