"""Linear probes: how much of the labels a linear classifier reads off frozen features."""

import dataclasses
import warnings

import numpy as np
import tensorflow as tf
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from tf_simclr.data import decoding

RAW_PIXELS = "raw_pixels"


@dataclasses.dataclass(frozen=True)
class Features:
    """A split as several encoders see it.

    Attributes:
      features: {encoder's name: (n, d)}, and under "raw_pixels" the images (n, h, w, 3).
      labels: (n,) class numbers.
      skipped: how many more there are in the split, which cannot be decoded.
    """

    features: dict[str, np.ndarray]
    labels: np.ndarray
    skipped: int = 0

    def flat(self, name: str) -> np.ndarray:
        """The features of one encoder, (n, d); the pixels as d = h * w * 3."""
        return self.features[name].reshape(len(self.labels), -1)


def extract(models: dict, batches, *, description: str) -> Features:
    """Runs encoders over a split in one pass.

    Args:
      models: {name: SimCLR}, run in inference mode; their final_avg_pool counts.
      batches: data set of (images (n, h, w, 3), one-hot labels (n, classes), weights (n,), skipped
        (n,)).
      description: of the progress bar.

    Returns:
      The Features of the examples of weight 1.

    Raises:
      UndecodableError: there is none.
    """

    @tf.function
    def encode(images):
        return {
            name: model(images, training=False)["final_avg_pool"]
            for name, model in models.items()
        }

    parts, num_skipped = [], 0
    total = int(batches.cardinality())
    for images, labels, weights, skipped in tqdm(
        batches, desc=description, unit="batch", total=total if total > 0 else None, leave=False
    ):
        real = weights.numpy() > 0
        seen = {RAW_PIXELS: images} | encode(images) | {"labels": tf.argmax(labels, axis=1)}
        parts.append({name: value.numpy()[real] for name, value in seen.items()})
        num_skipped += int(skipped.numpy().sum())
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if not len(joined["labels"]):
        raise decoding.UndecodableError(f"{description}: not one example can be decoded")
    return Features(labels=joined.pop("labels"), features=joined, skipped=num_skipped)


def accuracy(train_x, train_y, test_x, test_y, *, strength: float = 1.0, iterations: int = 100):
    """Top-1 test accuracy of l2-regularised multinomial logistic regression (L-BFGS).

    Args:
      train_x, test_x: (n, d) features; standardised by the training set's mean and deviation.
      train_y, test_y: (n,) class numbers.
      strength: inverse weight of the l2 term (scikit-learn's C).
      iterations: at most so many; a probe that is still improving then counts as it is.
    """
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=iterations))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(train_x, train_y)
    return float(probe.score(test_x, test_y))
