"""Loss terms that tasks share: weight decay and the supervised loss."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from tf_simclr.devices.replicas import all_reduce_sum, batch_size, num_replicas
from tf_simclr.precision import at_least_float32
from tf_simclr.ranks import rank


class WeightDecay(NamedTuple):
    """Weight decay as a term of the loss.

    With LARS it covers only the supervised head, because LARS decays all other kernels itself.

    Attributes:
      variables: the variables that decay (`optim.policy.loss_decay_variables`).
      coefficient: factor on the term (the setting weight_decay).
    """

    variables: Sequence
    coefficient: float

    def loss(self) -> tf.Tensor:
        """Returns coefficient * sum(|variable|^2 / 2), (); 0 if there are no variables."""
        if not self.variables or not self.coefficient:
            return tf.zeros((), keras.backend.floatx())
        return self.coefficient * tf.add_n(
            [tf.nn.l2_loss(at_least_float32(variable)) for variable in self.variables]
        )


class Targets(NamedTuple):
    """The labels of a replica's images, and the weight of each image.

    Attributes:
      one_hot: (n, classes), a row of zeros for an unlabeled image.
      weights: (n,), 0 for unlabeled images. Labeled images share one weight, chosen so that the
        mean weight over all replicas is 1. The mean of weighted losses, averaged over replicas or
        micro-batches, is then the mean over the labeled images.
    """

    one_hot: tf.Tensor
    weights: tf.Tensor

    @classmethod
    def from_labels(cls, one_hot: tf.Tensor) -> "Targets":
        """Computes the weights from the one-hot labels (n, classes) of this replica.

        All replicas must call it, because it counts the labeled images over all replicas.
        """
        one_hot = tf.convert_to_tensor(one_hot)
        has_label = tf.reduce_sum(one_hot, axis=1)
        images = tf.cast(batch_size(one_hot) * num_replicas(), has_label.dtype)
        return cls(
            one_hot, has_label * images / tf.maximum(all_reduce_sum(tf.reduce_sum(has_label)), 1)
        )

    def of_both_views(self) -> "Targets":
        """Returns the targets of 2n views: the first views of all images, then the second views."""
        return Targets(*(tf.concat([tensor, tensor], axis=0) for tensor in self))


def supervised_loss(logits: tf.Tensor, targets: Targets) -> dict[str, tf.Tensor]:
    """Computes softmax cross-entropy and top-1 accuracy, averaged over the labeled images.

    Args:
      logits: logits (n, classes).
      targets: targets of the n images.

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
