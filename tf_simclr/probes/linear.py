"""Linear probes: how much of the labels a linear classifier reads off frozen features."""

import warnings

import numpy as np
import tensorflow as tf
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm


def extract(model, batches, *, description: str, num_batches: int | None = None):
    """Raw pixels, encoder outputs and labels of a split.

    Args:
      model: SimCLR, run in inference mode.
      batches: data set of (images (n, h, w, 3), one-hot labels (n, classes), weights (n,)).
      description: of the progress bar.
      num_batches: its length, where it is known.

    Returns:
      (pixels (m, h * w * 3), features (m, d), labels (m,)) of the m examples of weight 1.
    """

    @tf.function
    def encode(images):
        return model(images, training=False)["final_avg_pool"]

    pixels, features, labels = [], [], []
    for x, y, weights in tqdm(
        batches, desc=description, unit="batch", total=num_batches, leave=False
    ):
        real = weights.numpy() > 0
        features.append(encode(x).numpy()[real])
        pixels.append(x.numpy()[real].reshape(real.sum(), -1))
        labels.append(np.argmax(y.numpy()[real], axis=1))
    return np.concatenate(pixels), np.concatenate(features), np.concatenate(labels)


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
