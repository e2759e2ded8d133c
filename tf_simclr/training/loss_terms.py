"""The parts that losses are summed from, besides NT-Xent and distillation."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from tf_simclr.devices.replicas import batch_size, num_replicas, total
from tf_simclr.precision import at_least_float32
from tf_simclr.ranks import rank


class WeightDecay(NamedTuple):
    """Weight decay as a term of the loss; LARS has its own in the update.

    Attributes:
      variables: those that decay (`optim.policy.loss_decay_variables`).
      coefficient: of the term.
    """

    variables: Sequence
    coefficient: float

    def loss(self) -> tf.Tensor:
        """Returns coefficient times the sum of half squared norms, (); 0 for no variables."""
        if not self.variables or not self.coefficient:
            return tf.zeros((), keras.backend.floatx())
        return self.coefficient * tf.add_n(
            [tf.nn.l2_loss(at_least_float32(variable)) for variable in self.variables]
        )


class Targets(NamedTuple):
    """The labels of a replica's images, and how much each image counts.

    Attributes:
      one_hot: (n, classes), a row of zeros for an image without a label.
      weights: (n,), 0 for an image without a label. The others weigh the same, and the mean weight
        over the images of all replicas is 1. A mean of weighted losses, over whichever parts of the
        batch it is taken, is then the mean over the labelled images.
    """

    one_hot: tf.Tensor
    weights: tf.Tensor

    @classmethod
    def from_labels(cls, one_hot: tf.Tensor) -> "Targets":
        """Weighs the images by their one-hot labels (n, classes).

        All replicas must call it, each with its own n images.
        """
        one_hot = tf.convert_to_tensor(one_hot)
        labelled = tf.reduce_sum(one_hot, axis=1)
        images = tf.cast(batch_size(one_hot) * num_replicas(), labelled.dtype)
        return cls(one_hot, labelled * images / tf.maximum(total(tf.reduce_sum(labelled)), 1))

    def of_both_views(self) -> "Targets":
        """Returns the targets of 2n views: the first views of all images, then the second views."""
        return Targets(*(tf.concat([part, part], axis=0) for part in self))


def supervised_loss(logits: tf.Tensor, targets: Targets) -> dict[str, tf.Tensor]:
    """Computes softmax cross-entropy and top-1 accuracy, means over the labelled images.

    Args:
      logits: (n, classes).
      targets: of the n images.

    Returns:
      supervised_loss and supervised_acc, () each.
    """
    logits = at_least_float32(logits)
    loss = tf.nn.softmax_cross_entropy_with_logits(targets.one_hot, logits)
    hit = tf.equal(rank(logits, tf.argmax(targets.one_hot, axis=1)), 0)
    weights = tf.cast(targets.weights, logits.dtype)
    return {
        "supervised_loss": tf.reduce_mean(weights * loss),
        "supervised_acc": tf.reduce_mean(weights * tf.cast(hit, weights.dtype)),
    }
