"""Computes a two-dimensional map of embeddings, and clusters of images without labels."""

import warnings
from typing import Any

import numpy as np
import threadpoolctl
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.manifold import TSNE

from tf_simclr.errors import ConfigError, one_line

METHODS = ("auto", "tsne", "umap", "pca")
COMPONENTS = 50
PERPLEXITY = 30.0
MIN_NEIGHBORHOOD = 5  # fewer images have no neighborhoods to keep: PCA draws them
MAX_CLUSTERS = 8  # as many as there are colors that everybody can tell apart
_SAME = 1e-10  # variance relative to the mean square; float32 rounds at 1e-14


def check_method(method: str) -> None:
    """Raises ConfigError if a method is unknown, or needs a package that is not installed."""
    if method not in METHODS:
        raise ConfigError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if method == "umap":
        _umap()


def _umap() -> Any:
    try:
        import umap
    except ImportError as error:
        raise ConfigError(
            f"method umap needs umap-learn ({one_line(error)}): pip install umap-learn, or use "
            "method tsne"
        ) from error
    return umap


def layout(features: np.ndarray, *, method: str = "auto", seed: int = 0) -> tuple[np.ndarray, str]:
    """Places similar features near each other.

    Features are first scaled to length 1, because the contrastive loss compares directions. The
    first 50 principal components go to t-SNE (van der Maaten and Hinton, 2008), or to UMAP.

    Args:
      features: float (n, d), finite, n at least 1.
      method: "tsne", "umap", "pca"; "auto" is t-SNE, so that maps of different machines compare.
      seed: seed of t-SNE and UMAP.

    Returns:
      float32 (n, 2) in [0, 1], with the same scale on both axes, and the name of the method. All
      points are in the center if all features are the same.

    Raises:
      ConfigError: the method cannot be used (`check_method`).
    """
    check_method(method)
    if is_constant(features):
        return np.full((len(features), 2), 0.5, np.float32), "all embeddings are the same"
    components = principal_components(features)
    # t-SNE's search of bandwidths starts at 1.
    components = components / components.std()
    if method == "pca" or len(features) < MIN_NEIGHBORHOOD:
        return _scaled(components[:, :2]), "two principal components"
    name = f"of {components.shape[1]} principal components"
    if method == "umap":
        # A single thread, without which UMAP is not reproducible.
        fitted = _umap().UMAP(
            n_neighbors=min(15, len(features) - 1), random_state=seed, n_jobs=1, init="pca"
        )
        return _scaled(fitted.fit_transform(components)), f"UMAP {name}"
    fitted = TSNE(
        init="pca",
        learning_rate="auto",
        perplexity=min(PERPLEXITY, (len(features) - 1) / 3),
        random_state=seed,
    )
    # The sums of several threads depend on their number. Threads also wait for each other in every
    # small step, which takes ten times as long if a run that trains uses the cores.
    with threadpoolctl.threadpool_limits(1, user_api="openmp"):
        return _scaled(fitted.fit_transform(components)), f"t-SNE {name}"


def is_constant(features: np.ndarray) -> bool:
    """Returns whether all features (n, d) have the same direction, as after a collapse."""
    unit = unit_features(features)
    return float(unit.var(axis=0).sum()) <= _SAME * max(float((unit**2).sum(axis=1).mean()), 1e-30)


def unit_features(features: np.ndarray) -> np.ndarray:
    """Scales features (n, d) to length 1, in float64. Features of length 0 do not change."""
    features = features.astype(np.float64)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(norms > 0, norms, 1)


def principal_components(features: np.ndarray) -> np.ndarray:
    """Returns the first principal components of unit features: at least 2, at most 50.

    Args:
      features: (n, d).

    Returns:
      float64 (n, c); columns of zeros if there are fewer than 2.
    """
    unit = unit_features(features).astype(np.float32)  # half the time, and enough for a picture
    count = min(COMPONENTS, *unit.shape)
    components = PCA(count, svd_solver="randomized", random_state=0).fit_transform(unit)
    missing = max(0, 2 - count)
    return np.pad(components.astype(np.float64), ((0, 0), (0, missing)))


def _scaled(coordinates: np.ndarray) -> np.ndarray:
    """Moves and scales points (n, 2) into the unit square, with the same scale on both axes."""
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    scale = float((high - low).max()) or 1.0
    scaled = 0.5 + (coordinates - (low + high) / 2) / scale
    return np.clip(scaled, 0, 1).astype(np.float32)


def clusters(features: np.ndarray, *, seed: int = 0) -> tuple[np.ndarray, tuple[str, ...]]:
    """Groups images without labels by k-means of the components that the map shows.

    The number of clusters is sqrt(n / 2), a rule of thumb, and at most 8: as many as there are
    colors that everybody can tell apart.

    Args:
      features: (n, d), finite.
      seed: seed of the initial centers.

    Returns:
      int (n,), and the names "cluster 1", ..., the largest first.
    """
    count = min(MAX_CLUSTERS, max(1, round((len(features) / 2) ** 0.5)))
    if count == 1 or is_constant(features):
        return np.zeros(len(features), np.int64), ("cluster 1",)
    fitted = KMeans(count, n_init=4, random_state=seed)
    with warnings.catch_warnings(), threadpoolctl.threadpool_limits(1, user_api="openmp"):
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct features than clusters
        found = fitted.fit_predict(principal_components(features))
    values, sizes = np.unique(found, return_counts=True)
    order = values[np.argsort(-sizes, kind="stable")]
    number = np.zeros(count, np.int64)
    number[order] = np.arange(len(order))
    return number[found], tuple(f"cluster {i + 1}" for i in range(len(order)))
