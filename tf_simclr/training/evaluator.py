"""Computes the top-1 and top-5 accuracy of the supervised head over a split."""

import keras
import tensorflow as tf

from tf_simclr.console import progress
from tf_simclr.data import errors
from tf_simclr.data.batch import EvalBatch
from tf_simclr.devices import workers
from tf_simclr.ranks import rank


def evaluation_step(model: keras.Model, batch: EvalBatch) -> dict[str, tf.Tensor]:
    """Counts hits among the labeled images of a batch, in inference mode.

    Returns:
      top_1, top_5, examples (with a label), unlabelled and skipped: sums over the batch, () each.
      top_5 is omitted for fewer than five classes: it would always be 1.
    """
    logits = tf.cast(model(batch.images, training=False)["logits_sup"], tf.float32)
    ranks = rank(logits, tf.argmax(batch.labels, axis=1))
    label_weights = batch.weights * tf.reduce_sum(batch.labels, axis=1)
    sums = {
        f"top_{k}": tf.reduce_sum(label_weights * tf.cast(ranks < k, tf.float32))
        for k in (1, 5)
        if logits.shape[-1] is None or k <= logits.shape[-1]
    }
    examples = tf.reduce_sum(label_weights)
    return sums | {
        "examples": examples,
        "unlabelled": tf.reduce_sum(batch.weights) - examples,
        "skipped": tf.reduce_sum(batch.skipped),
    }


class Evaluator:
    """Evaluates a model. The function is traced only once, however often it is called."""

    def __init__(self, strategy: tf.distribute.Strategy, model):
        """Prepares the function. The first call traces it.

        Args:
          strategy: the strategy whose replicas share each batch.
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
        """Evaluates the current weights in one pass.

        Args:
          batches: distributed data set of EvalBatch. A new data set object causes a retrace, so
            pass the same one each time.
          num_batches: number of batches to evaluate.

        Returns:
          eval/label_top_1_accuracy and, for five or more classes, eval/label_top_5_accuracy, over
          exactly the labeled examples of weight 1. eval/skipped_examples is the number of examples
          that could not be decoded, and eval/unlabelled_examples the number without a label. Both
          counts are omitted if they are 0.

        Raises:
          UndecodableError: there is no labeled example of weight 1.
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
    """Computes the accuracies from the totals, and adds the counts that are not 0."""
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
