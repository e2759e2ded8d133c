"""Weighted k-nearest-neighbor classification (Wu et al., arXiv:1805.01978, section 3.4).

Training features are read in blocks, once, and each block is compared with all queries. ImageNet's
features then need no more memory than the queries, their neighbors and a block.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from tf_simclr.console import progress
from tf_simclr.probes import blocks, metrics
from tf_simclr.probes.blocks import Matrix

TEMPERATURE = 0.07
COUNTS = (1, 5, 20, 200)
_TRAIN_BLOCK = 16_384  # training features per block
_SIMILARITIES = 2**25  # similarities computed at a time: 128 MB


def classify(
    train: np.ndarray | Matrix,
    labels: np.ndarray,
    test: np.ndarray | Matrix,
    test_labels: np.ndarray,
    *,
    counts: Sequence[int] = COUNTS,
    temperature: float = TEMPERATURE,
    description: str = "kNN",
) -> dict[int, np.ndarray]:
    """Classifies by a vote of the k most similar training features.

    A vote has the weight exp(cosine similarity / temperature). Training and test features are
    compared block by block, which bounds the memory.

    Args:
      train: training features (n, d).
      labels: class indices of the training features (n,).
      test: test features (m, d).
      test_labels: class indices of the test features (m,).
      counts: values of k, all evaluated in one pass. Values above n count as n.
      temperature: temperature of the votes.
      description: text of the progress bar.

    Returns:
      {k: ranks (m,) of the correct classes by their votes (`metrics.ranks`)}.
    """
    num_classes = int(labels.max()) + 1
    max_count = min(max(counts), len(train))
    similarities, neighbors = nearest(train, test, max_count, description=description)
    ranks: dict[int, list[np.ndarray]] = {k: [] for k in counts}
    for rows in _chunks(len(neighbors), num_classes):
        votes = np.exp(similarities[rows].astype(np.float64) / temperature)
        classes = labels[neighbors[rows]]
        for k in counts:
            scores = sum_votes(classes[:, :k], votes[:, :k], num_classes)
            ranks[k].append(metrics.ranks(scores, test_labels[rows]))
    return {k: np.concatenate(parts) for k, parts in ranks.items()}


def predict(
    train: np.ndarray | Matrix,
    labels: np.ndarray,
    test: np.ndarray | Matrix,
    *,
    count: int,
    itself: np.ndarray | None = None,
    temperature: float = TEMPERATURE,
) -> np.ndarray:
    """Predicts classes by the vote of `classify`.

    Args:
      train: training features (n, d).
      labels: class indices of the training features (n,).
      test: test features (m, d).
      count: number of votes; more than n counts as n.
      itself: int (m,), index of each test image among the training images, which then has no vote;
        -1 if it is not among them. None if no test image is.
      temperature: temperature of the votes.

    Returns:
      Class indices (m,).
    """
    num_classes = int(labels.max()) + 1
    num_nearest = min(count + (itself is not None), len(train))
    similarities, neighbors = nearest(train, test, num_nearest)
    predictions = []
    for rows in _chunks(len(neighbors), num_classes):
        votes = np.exp(similarities[rows].astype(np.float64) / temperature)
        if itself is not None:
            is_itself = neighbors[rows] == itself[rows, None]
            votes[is_itself] = 0
            if num_nearest > count:
                votes[~is_itself.any(axis=1), -1] = 0
        scores = sum_votes(labels[neighbors[rows]], votes, num_classes)
        predictions.append(scores.argmax(axis=1))
    return np.concatenate(predictions)


def nearest(
    train: np.ndarray | Matrix,
    test: np.ndarray | Matrix,
    count: int,
    *,
    description: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the training features most similar to each test feature.

    Args:
      train: training features (n, d).
      test: test features (m, d).
      count: number of training features to find for each test feature, at most n.
      description: text of the progress bar; None for no bar.

    Returns:
      Their cosine similarities, float32 (m, count), largest first, and their indices, int32
      (m, count). Of equal similarities the lower index comes first.
    """
    train, test = blocks.as_matrix(train), blocks.as_matrix(test)
    # The queries of a group stay in memory while all training features are read.
    group_rows = max(1, blocks.MEMORY_BYTES // (4 * test.shape[1]))
    total = len(train) * -(-len(test) // group_rows)
    with (
        blocks.full_precision(),
        progress(
            total=total, desc=description or "", unit="image", disable=description is None
        ) as bar,
    ):
        groups = [
            _nearest_of_group(train, queries, count, bar.update)
            for _, queries in test.blocks(group_rows)
        ]
    values, indices = zip(*groups, strict=True)
    return np.concatenate(values), np.concatenate(indices)


def _nearest_of_group(
    train: Matrix, test: np.ndarray, count: int, advance: Callable[[int], object]
) -> tuple[np.ndarray, np.ndarray]:
    """Does the work of `nearest` for the test features (m, d), which are in memory."""
    block_rows = min(_TRAIN_BLOCK, len(train))
    chunk = max(1, _SIMILARITIES // block_rows)
    queries = [_unit(test[start : start + chunk]) for start in range(0, len(test), chunk)]
    values = [tf.fill((len(part), count), -np.float32(np.inf)) for part in queries]
    indices = [tf.zeros((len(part), count), tf.int32) for part in queries]
    for rows, block in train.blocks(block_rows):
        candidates, first = _unit(block), tf.constant(rows.start)
        for i, part in enumerate(queries):
            values[i], indices[i] = _merge(part, candidates, first, values[i], indices[i])
        advance(len(block))
    return np.concatenate(values), np.concatenate(indices)


def sum_votes(classes: np.ndarray, votes: np.ndarray, num_classes: int) -> np.ndarray:
    """Sums the votes (m, k) for the classes (m, k) of neighbors; returns (m, num_classes)."""
    scores = np.zeros((len(votes), num_classes))
    np.add.at(scores, (np.arange(len(votes))[:, None], classes), votes)
    return scores


def _chunks(length: int, num_classes: int) -> Iterator[slice]:
    """Yields slices of queries whose votes for all classes fit in memory."""
    size = max(1, _SIMILARITIES // (8 * max(num_classes, max(COUNTS))))
    for start in range(0, length, size):
        yield slice(start, start + size)


def _unit(features: np.ndarray) -> tf.Tensor:
    return tf.math.l2_normalize(tf.constant(features, tf.float32), axis=1)


@tf.function(reduce_retracing=True)
def _merge(
    queries: tf.Tensor, block: tf.Tensor, first: tf.Tensor, values: tf.Tensor, indices: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Merges the neighbors in a block into the nearest ones of the blocks before it.

    Args:
      queries: unit vectors (m, d).
      block: training features, unit vectors (b, d).
      first: the index of the block's first training feature.
      values: similarities of the nearest so far, (m, count); -inf where there are none yet.
      indices: their indices, (m, count).

    Returns:
      The new similarities and indices.
    """
    count = tf.shape(values)[1]
    similarities = tf.matmul(queries, block, transpose_b=True)
    new_values, new_indices = tf.math.top_k(similarities, tf.minimum(count, tf.shape(block)[0]))
    # The earlier ones come first, because top_k prefers them where similarities are equal.
    values = tf.concat([values, new_values], axis=1)
    indices = tf.concat([indices, new_indices + first], axis=1)
    values, chosen = tf.math.top_k(values, count)
    return values, tf.gather(indices, chosen, batch_dims=1)
