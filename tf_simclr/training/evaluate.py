"""Top-1 and top-5 accuracy of the supervised head over a split, and the result files."""

import json
import os

import tensorflow as tf
from tqdm import tqdm

from tf_simclr.training import steps


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
    for _ in tqdm(range(num_batches), desc="evaluate", unit="batch", leave=False):
        for name, value in evaluate_batch(*next(iterator)).items():
            totals[name] += float(value)
    return {
        "eval/label_top_1_accuracy": totals["top_1"] / totals["examples"],
        "eval/label_top_5_accuracy": totals["top_5"] / totals["examples"],
    }


def write_results(model_dir: str, results: dict[str, float], *, step: int, name: str | None):
    """Writes result.json and result_STEP.json, and the summaries, as the official code does.

    Args:
      results: {metric: value}; the files hold global_step too.
      name: of the evaluation (eval_name): goes into the files' names and the summaries' folder.
    """
    suffix = f"_{name}" if name else ""
    content = json.dumps(results | {"global_step": step}, indent=2)
    for file in (f"result{suffix}.json", f"result{suffix}_{step}.json"):
        write_file(os.path.join(model_dir, file), content + "\n")
    writer = tf.summary.create_file_writer(os.path.join(model_dir, f"eval{suffix}"))
    with writer.as_default(step=step):
        for metric, value in results.items():
            tf.summary.scalar(metric, value)
    writer.close()


def write_file(path: str, content: str):
    """Writes a text file that is either there in full or not at all."""
    unfinished = path + ".unfinished"
    with tf.io.gfile.GFile(unfinished, "w") as file:
        file.write(content)
    tf.io.gfile.rename(unfinished, path, overwrite=True)
