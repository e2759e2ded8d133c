"""Figures of embeddings that need no labels: is an encoder learning, and has it collapsed?

z1 and z2 are the projections of two views of n images, row by row, float (n, d). The functions
scale them to unit length, as the contrastive loss does. They compute in float64, and compare images
in blocks of rows, which bounds the memory.
"""

from collections.abc import Iterator

import numpy as np

from tf_simclr.probes import knn, metrics

NEIGHBORS = 20  # k of knn_top_1
_RANKME_EPSILON = 1e-7  # RankMe, equation 1
_SIMILARITIES = 2**22  # similarities in memory at a time: 32 MB
_SHORTEST = 1e-6  # shorter vectors are not scaled to unit length, as in tf.math.l2_normalize


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scales each row (n, d) to unit length, float64. A row of zeros stays zero."""
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _SHORTEST)


def alignment(z1: np.ndarray, z2: np.ndarray) -> float:
    """Returns the mean squared distance of positives (Wang and Isola, arXiv:2005.10242, alpha = 2).

    mean over i of |z1_i - z2_i|^2, in [0, 4]; 0 if both views of each image have one projection.
    """
    return float(np.mean(np.sum((unit(z1) - unit(z2)) ** 2, axis=1)))


def uniformity(z: np.ndarray) -> float:
    """Returns how evenly projections cover the sphere (Wang and Isola, arXiv:2005.10242, t = 2).

    log of the mean over pairs i < j of exp(-2 |z_i - z_j|^2), in [-8, 0]; 0 if all projections are
    equal, and about -4 if they are spread evenly over a sphere of many dimensions.

    Args:
      z: (n, d), one projection per image; n is at least 2.
    """
    z = unit(z)
    n, total = len(z), 0.0
    for rows, similarities in _blocks(z):
        # |x - y|^2 = 2 - 2 x.y for unit vectors
        kernel = np.exp(np.minimum(4 * similarities - 4, 0))
        later = np.arange(n)[None, :] > rows[:, None]
        total += kernel[later].sum()
    return float(np.log(total / (n * (n - 1) / 2)))


def positive_similarity(z1: np.ndarray, z2: np.ndarray) -> float:
    """Returns the mean cosine similarity of the two views of an image, 1 - alignment / 2."""
    return float(np.mean(np.sum(unit(z1) * unit(z2), axis=1)))


def negative_similarity(z1: np.ndarray, z2: np.ndarray) -> float:
    """Returns the mean cosine similarity of views of different images.

    It averages over all 4n(n - 1) ordered pairs of views of different images. Their sum is
    |s|^2 - sum over i of |z1_i + z2_i|^2, where s is the sum of all projections.
    """
    both = unit(z1) + unit(z2)
    n, total = len(both), both.sum(axis=0)
    return float((total @ total - np.sum(both**2)) / (4 * n * (n - 1)))


def embedding_std(z: np.ndarray) -> float:
    """Returns the spread of projections: 1 if they are spread evenly, 0 if they have collapsed.

    sqrt(d) times the mean over dimensions of the standard deviation of unit-length projections
    (SimSiam, arXiv:2011.10566, section 4.1, which compares the deviation with 1 / sqrt(d)).

    Args:
      z: (n, d), projections of any views.
    """
    z = unit(z)
    return float(np.sqrt(z.shape[1]) * np.mean(z.std(axis=0)))


def singular_values(features: np.ndarray) -> np.ndarray:
    """Returns the singular values of features (n, d), the largest first: float64 (min(n, d),).

    The features are neither centered nor scaled.
    """
    return np.linalg.svd(np.asarray(features, np.float64), compute_uv=False)


def rankme(values: np.ndarray) -> float:
    """Returns the effective rank of an embedding (RankMe, arXiv:2210.02885, equation 1).

    exp(-sum over k of p_k log p_k) with p_k = sigma_k / (sum of all sigma) + 1e-7. It is between 1
    and about min(n, d).

    Args:
      values: the singular values, (min(n, d),).
    """
    p = values / max(values.sum(), np.finfo(np.float64).tiny) + _RANKME_EPSILON
    return float(np.exp(-np.sum(p * np.log(p))))


def knn_top_1(features: np.ndarray, labels: np.ndarray) -> float:
    """Returns the accuracy of nearest neighbors, leaving out one image at a time.

    Each image is classified by its 20 most similar other images. A vote has the weight
    exp(cosine similarity / 0.07), as in `knn.classify` (Wu et al., arXiv:1805.01978, section 3.4).

    Args:
      features: (n, d); n is at least 2.
      labels: class indices (n,).
    """
    z, (_, targets) = unit(features), np.unique(labels, return_inverse=True)
    count, hits = min(NEIGHBORS, len(z) - 1), 0
    for rows, similarities in _blocks(z):
        queries = np.arange(len(rows))[:, None]
        similarities[queries[:, 0], rows] = -np.inf
        nearest = np.argpartition(-similarities, count - 1, axis=1)[:, :count]
        votes = np.exp(similarities[queries, nearest] / knn.TEMPERATURE)
        scores = knn.sum_votes(targets[nearest], votes, targets.max() + 1)
        hits += int(np.sum(metrics.ranks(scores, targets[rows]) < 1))
    return hits / len(z)


def _blocks(z: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields indices of rows, (m,), and their similarities to all rows, (m, n), block by block."""
    size = max(1, _SIMILARITIES // len(z))
    for start in range(0, len(z), size):
        rows = np.arange(start, min(start + size, len(z)))
        yield rows, z[rows] @ z.T
