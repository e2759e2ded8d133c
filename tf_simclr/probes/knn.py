"""Weighted k-nearest-neighbor classification (Wu et al., arXiv:1805.01978, section 3.4)."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_simclr.console import progress
from tf_simclr.probes import metrics

TEMPERATURE = 0.07
COUNTS = (1, 5, 20, 200)
_TRAIN_BLOCK = 65_536  # training features per block
_SIMILARITIES = 2**25  # similarities computed at a time: 128 MB


def classify(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
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
    max_count = min(max(counts), len(train))
    num_classes = int(labels.max()) + 1
    blocks = [_unit(train[i : i + _TRAIN_BLOCK]) for i in range(0, len(train), _TRAIN_BLOCK)]
    rows = max(1, _SIMILARITIES // min(len(train), _TRAIN_BLOCK))
    ranks: dict[int, list[np.ndarray]] = {k: [] for k in counts}
    with progress(total=len(test), desc=description, unit="image") as bar:
        for start in range(0, len(test), rows):
            queries = _unit(test[start : start + rows])
            similarities, neighbors = _nearest(queries, blocks, max_count)
            votes = np.exp(similarities / temperature)
            for k in counts:
                scores = sum_votes(labels[neighbors[:, :k]], votes[:, :k], num_classes)
                ranks[k].append(metrics.ranks(scores, test_labels[start : start + rows]))
            bar.update(len(votes))
    return {k: np.concatenate(parts) for k, parts in ranks.items()}


def predict(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
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
    blocks = [_unit(train[i : i + _TRAIN_BLOCK]) for i in range(0, len(train), _TRAIN_BLOCK)]
    rows = max(1, _SIMILARITIES // min(len(train), _TRAIN_BLOCK))
    predictions = []
    for start in range(0, len(test), rows):
        queries = _unit(test[start : start + rows])
        num_nearest = min(count + (itself is not None), len(train))
        similarities, neighbors = _nearest(queries, blocks, num_nearest)
        votes = np.exp(similarities / temperature)
        if itself is not None:
            is_itself = neighbors == itself[start : start + rows, None]
            votes[is_itself] = 0
            if num_nearest > count:
                votes[~is_itself.any(axis=1), -1] = 0
        scores = sum_votes(labels[neighbors], votes, num_classes)
        predictions.append(scores.argmax(axis=1))
    return np.concatenate(predictions)


def sum_votes(classes: np.ndarray, votes: np.ndarray, num_classes: int) -> np.ndarray:
    """Sums the votes (m, k) for the classes (m, k) of neighbors; returns (m, num_classes)."""
    scores = np.zeros((len(votes), num_classes))
    np.add.at(scores, (np.arange(len(votes))[:, None], classes), votes)
    return scores


def _unit(features: np.ndarray) -> tf.Tensor:
    return tf.math.l2_normalize(tf.constant(features, tf.float32), axis=1)


def _nearest(
    queries: tf.Tensor, blocks: list[tf.Tensor], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the training features most similar to each query.

    Args:
      queries: unit vectors (m, d).
      blocks: the training features, unit vectors (n_i, d).
      count: number of training features to find per query.

    Returns:
      Their cosine similarities, float64 (m, count), largest first, and their indices into all
      training features, (m, count).
    """
    values = tf.zeros((len(queries), 0))
    indices = tf.zeros((len(queries), 0), tf.int32)
    first = 0
    for block in blocks:
        block_values, block_indices = tf.math.top_k(
            tf.matmul(queries, block, transpose_b=True), min(count, len(block))
        )
        values = tf.concat([values, block_values], axis=1)
        indices = tf.concat([indices, block_indices + first], axis=1)
        values, chosen = tf.math.top_k(values, min(count, values.shape[1]))
        indices = tf.gather(indices, chosen, batch_dims=1)
        first += len(block)
    return values.numpy().astype(np.float64), indices.numpy()
