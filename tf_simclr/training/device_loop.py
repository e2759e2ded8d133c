"""Runs many training steps in one call of a tf.function, without returning to the host."""

from collections.abc import Callable, Sequence

import tensorflow as tf

from tf_simclr.data.batch import TrainBatch

NUM_SUMMARY_IMAGES = 3
# What is counted in each batch, besides the metrics.
COUNTS = ("skipped_examples", "unlabelled_examples")


def make_run_steps(
    strategy: tf.distribute.Strategy,
    step_fn: Callable[[TrainBatch], dict[str, tf.Tensor]],
    metric_names: Sequence[str],
    *,
    image_size: int,
    preview: Callable[[TrainBatch, int], tf.Tensor],
) -> Callable:
    """Makes the function that runs training steps.

    Args:
      strategy: the strategy whose replicas run step_fn.
      step_fn: takes one step on one replica and returns its metrics, () each.
      metric_names: names of the metrics that step_fn returns.
      image_size: side s of a view, in pixels.
      preview: (batch, k) -> float32 (k, s, s, 3), first views of the first k images.

    Returns:
      A tf.function (iterator, num_steps ()) -> rows, views. The iterator yields distributed
      TrainBatch. Row i (float32) holds the metrics of step i, averaged over replicas, and then
      COUNTS, summed over the batch. views, float32 (3, s, s, 3), are previews of the last batch.
    """
    columns = len(metric_names) + len(COUNTS)
    uses_labels = "supervised_acc" in metric_names

    @tf.autograph.experimental.do_not_convert  # AutoGraph would convert the Python `if`s
    def replica_step(batch: TrainBatch, is_last: tf.Tensor):
        """Takes one step on one replica; returns its row, and the previews in the last step."""
        metrics = step_fn(batch)
        unlabeled = 1.0 - tf.reduce_sum(batch.labels, axis=1) if uses_labels else tf.zeros(1)
        # The mean of these over the replicas is the sum over the batch.
        counts = (
            tf.reduce_sum(flags) * strategy.num_replicas_in_sync
            for flags in (batch.skipped, unlabeled)
        )
        # One vector needs one reduction over the replicas.
        row = tf.stack([*(metrics[name] for name in metric_names), *counts])
        num_views = min(NUM_SUMMARY_IMAGES, batch.labels.shape[0] or NUM_SUMMARY_IMAGES)
        views = tf.cond(
            is_last,
            lambda: preview(batch, NUM_SUMMARY_IMAGES),
            lambda: tf.zeros((num_views, image_size, image_size, 3)),
        )
        return row, views

    @tf.function
    def run_steps(iterator, num_steps):
        """Takes num_steps steps on all replicas."""
        rows = tf.TensorArray(tf.float32, num_steps, element_shape=(columns,))
        views = tf.zeros((0, image_size, image_size, 3))
        for i in tf.range(num_steps):
            tf.autograph.experimental.set_loop_options(
                shape_invariants=[(views, tf.TensorShape((None, image_size, image_size, 3)))]
            )
            is_last = tf.equal(i, num_steps - 1)
            row, views = strategy.run(replica_step, args=(next(iterator), is_last))
            views = strategy.experimental_local_results(views)[0]
            rows = rows.write(i, strategy.reduce(tf.distribute.ReduceOp.MEAN, row, axis=None))
        return rows.stack(), views

    return run_steps
