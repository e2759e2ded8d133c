"""A task whose loss is any function, for tests of what is done with a task."""

from collections.abc import Callable, Sequence

from tf_simclr.data.batch import ViewBatch


class FunctionTask:
    """Has the parts of a Task that gradients need.

    Attributes:
      loss_of: (batch, targets) -> metrics, total_loss among them.
      trainable: variables.
    """

    couples_images = False

    def __init__(self, loss_of: Callable, trainable: Sequence, metric_names=("total_loss",)):
        self.loss_of, self.trainable, self.metric_names = loss_of, trainable, metric_names
        self.model = self

    def moving_averages(self) -> list:
        return []

    def targets(self, labels):
        return labels

    def forward(self, batch, *, step, part):
        return batch

    def loss(self, outputs, targets):
        return self.loss_of(outputs, targets)


def batch_of(views, labels=None) -> ViewBatch:
    """A batch whose views and labels are any tensors of n rows."""
    return ViewBatch(views, views if labels is None else labels, views)
