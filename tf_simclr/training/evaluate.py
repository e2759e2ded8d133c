"""Top-1 and top-5 accuracy of the supervised head over a split."""

import tensorflow as tf
from tqdm import tqdm

from tf_simclr.training import steps, workers


def evaluate(strategy, model, batches, *, num_batches: int) -> dict[str, float]:
    """Evaluates one pass.

    Args:
      strategy: whose replicas share the work.
      model: SimCLR with a supervised head.
      batches: distributed data set of (images, one-hot labels, weights).
      num_batches: how many of them to take.

    Returns:
      eval/label_top_1_accuracy and eval/label_top_5_accuracy, over exactly the examples seen.
    """

    @tf.function
    def evaluate_batch(images, labels, weights):
        sums = strategy.run(
            lambda x, y, w: steps.evaluation_step(model, x, y, w), args=(images, labels, weights)
        )
        return {
            name: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for name, value in sums.items()
        }

    totals = {"top_1": 0.0, "top_5": 0.0, "examples": 0.0}
    iterator = iter(batches)
    chief = workers.is_chief(strategy)
    for _ in tqdm(
        range(num_batches), desc="evaluate", unit="batch", leave=False, disable=not chief
    ):
        for name, value in evaluate_batch(*next(iterator)).items():
            totals[name] += float(value)
    return {
        "eval/label_top_1_accuracy": totals["top_1"] / totals["examples"],
        "eval/label_top_5_accuracy": totals["top_5"] / totals["examples"],
    }
