"""Weighted k-nearest-neighbour classification (Wu et al., arXiv:1805.01978, section 3.4)."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_simclr.console import progress
from tf_simclr.probes import metrics

TEMPERATURE = 0.07
COUNTS = (1, 5, 20, 200)
_TRAIN_BLOCK = 65_536
_SIMILARITIES = 2**25  # at a time: 128 MB


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
    """Lets the k most similar training features vote, each with exp(cosine / temperature).

    Blocks of both sides are compared, so that memory does not grow with them.

    Args:
      train: (n, d) features.
      labels: (n,) their class numbers.
      test: (m, d) features.
      test_labels: (m,) their class numbers.
      counts: values of k, all from one pass; those above n count as n.
      temperature: of the votes.
      description: of the progress bar.

    Returns:
      {k: ranks (m,) of the right classes by their votes, as `metrics.ranks` has them}.
    """
    most = min(max(counts), len(train))
    num_classes = int(labels.max()) + 1
    blocks = [_unit(train[i : i + _TRAIN_BLOCK]) for i in range(0, len(train), _TRAIN_BLOCK)]
    rows = max(1, _SIMILARITIES // min(len(train), _TRAIN_BLOCK))
    ranks = {k: [] for k in counts}
    with progress(total=len(test), desc=description, unit="image") as bar:
        for start in range(0, len(test), rows):
            queries = _unit(test[start : start + rows])
            similarities, neighbours = _nearest(queries, blocks, most)
            votes = np.exp(similarities / temperature)
            for k in counts:
                scores = np.zeros((len(votes), num_classes))
                places = np.arange(len(votes))[:, None]
                np.add.at(scores, (places, labels[neighbours[:, :k]]), votes[:, :k])
                ranks[k].append(metrics.ranks(scores, test_labels[start : start + rows]))
            bar.update(len(votes))
    return {k: np.concatenate(parts) for k, parts in ranks.items()}


def _unit(features: np.ndarray) -> tf.Tensor:
    return tf.math.l2_normalize(tf.constant(features, tf.float32), axis=1)


def _nearest(queries: tf.Tensor, blocks: list[tf.Tensor], count: int):
    """The largest cosines, float64 (m, count), and whose they are, (m, count)."""
    values = tf.zeros((len(queries), 0))
    indices = tf.zeros((len(queries), 0), tf.int32)
    first = 0
    for block in blocks:
        found, places = tf.math.top_k(
            tf.matmul(queries, block, transpose_b=True), min(count, len(block))
        )
        values = tf.concat([values, found], axis=1)
        indices = tf.concat([indices, places + first], axis=1)
        values, chosen = tf.math.top_k(values, min(count, values.shape[1]))
        indices = tf.gather(indices, chosen, batch_dims=1)
        first += len(block)
    return values.numpy().astype(np.float64), indices.numpy()
