"""Top-1 and top-5 accuracy of the supervised head over a split."""

import keras
import tensorflow as tf

from tf_simclr.console import progress
from tf_simclr.data import errors
from tf_simclr.data.batch import EvalBatch
from tf_simclr.devices import workers
from tf_simclr.ranks import rank


def evaluation_step(model: keras.Model, batch: EvalBatch) -> dict[str, tf.Tensor]:
    """Counts hits among the labelled images of a batch, in inference mode.

    Returns:
      top_1, top_5, examples (with a label), unlabelled and skipped: sums over the batch, () each.
      There is no top_5 of fewer than five classes, where it would be 1 whatever the model says.
    """
    logits = tf.cast(model(batch.images, training=False)["logits_sup"], tf.float32)
    ranks = rank(logits, tf.argmax(batch.labels, axis=1))
    labelled = batch.weights * tf.reduce_sum(batch.labels, axis=1)
    sums = {
        f"top_{k}": tf.reduce_sum(labelled * tf.cast(ranks < k, tf.float32))
        for k in (1, 5)
        if logits.shape[-1] is None or k <= logits.shape[-1]
    }
    examples = tf.reduce_sum(labelled)
    return sums | {
        "examples": examples,
        "unlabelled": tf.reduce_sum(batch.weights) - examples,
        "skipped": tf.reduce_sum(batch.skipped),
    }


class Evaluator:
    """Evaluates a model as often as it is called, by one traced function."""

    def __init__(self, strategy: tf.distribute.Strategy, model):
        """Traces nothing yet.

        Args:
          strategy: whose replicas share the work.
          model: SimCLR with a supervised head.
        """
        self._strategy = strategy

        @tf.function(autograph=False)
        def evaluate_batch(batch: EvalBatch):
            sums = strategy.run(evaluation_step, args=(model, batch))
            return {
                name: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
                for name, value in sums.items()
            }

        self._evaluate_batch = evaluate_batch

    def __call__(self, batches, *, num_batches: int) -> dict[str, float]:
        """Evaluates the weights as they are, in one pass.

        Args:
          batches: distributed data set of EvalBatch. A data set that is made anew is traced anew,
            so pass the same one each time.
          num_batches: how many of them to take.

        Returns:
          eval/label_top_1_accuracy and, of five or more classes, eval/label_top_5_accuracy, over
          exactly the labelled examples of weight 1; eval/skipped_examples, how many could not be
          decoded, and eval/unlabelled_examples, how many have no label, only where there are any.

        Raises:
          UndecodableError: there is no labelled example of weight 1.
        """
        totals = dict.fromkeys(("top_1", "examples", "skipped", "unlabelled"), 0.0)
        iterator = iter(batches)
        quiet = not workers.is_chief(self._strategy)
        for _ in progress(
            range(num_batches), total=num_batches, desc="evaluate", unit="batch", disable=quiet
        ):
            for name, value in self._evaluate_batch(next(iterator)).items():
                totals[name] = totals.get(name, 0.0) + float(value)
        return _results(totals)


def _results(totals: dict[str, float]) -> dict[str, float]:
    """What Evaluator returns."""
    if not totals["examples"]:
        why = "has a label" if totals["unlabelled"] else "can be decoded"
        raise errors.UndecodableError(
            f"not one example of the evaluation split {why}: check the data set"
        )
    results = {
        f"eval/label_{name}_accuracy": totals[name] / totals["examples"]
        for name in ("top_1", "top_5")
        if name in totals
    }
    for name in ("skipped", "unlabelled"):
        if totals[name]:
            results[f"eval/{name}_examples"] = totals[name]
    return results
