"""Top-1 and top-5 accuracy of the supervised head over a split."""

import tensorflow as tf
from tqdm import tqdm

from tf_simclr.data import errors
from tf_simclr.training import steps, workers


def evaluate(strategy, model, batches, *, num_batches: int) -> dict[str, float]:
    """Evaluates one pass.

    Args:
      strategy: whose replicas share the work.
      model: SimCLR with a supervised head.
      batches: distributed data set of (images, one-hot labels, weights, skipped).
      num_batches: how many of them to take.

    Returns:
      eval/label_top_1_accuracy and, of five or more classes, eval/label_top_5_accuracy, over
      exactly the labelled examples of weight 1; eval/skipped_examples, how many could not be
      decoded, and eval/unlabelled_examples, how many have no label, only where there are any.

    Raises:
      UndecodableError: there is no labelled example of weight 1.
    """

    def count(images, labels, weights, skipped):
        sums = steps.evaluation_step(model, images, labels, weights)
        return sums | {"skipped": tf.reduce_sum(skipped)}

    @tf.function(autograph=False)
    def evaluate_batch(*batch):
        sums = strategy.run(count, args=batch)
        return {
            name: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for name, value in sums.items()
        }

    totals = dict.fromkeys(("top_1", "examples", "skipped", "unlabelled"), 0.0)
    iterator = iter(batches)
    chief = workers.is_chief(strategy)
    for _ in tqdm(
        range(num_batches), desc="evaluate", unit="batch", leave=False, disable=not chief
    ):
        for name, value in evaluate_batch(*next(iterator)).items():
            totals[name] = totals.get(name, 0.0) + float(value)
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
