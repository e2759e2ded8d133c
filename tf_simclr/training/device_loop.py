"""Runs many training steps in one call of a tf.function, without returning to the host."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tf_simclr import compat
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
    last_updated: Any,
) -> Callable:
    """Makes the function that runs training steps.

    Args:
      strategy: the strategy whose replicas run step_fn.
      step_fn: takes one step on one replica and returns its metrics, () each.
      metric_names: names of the metrics that step_fn returns.
      image_size: side s of a view, in pixels.
      preview: (batch, k) -> float32 (k, s, s, 3), first views of the first k images.
      last_updated: the variable that step_fn updates last (`policy.last_updated`).

    Returns:
      A tf.function (iterator, num_steps ()) -> rows, views, waits. The iterator yields distributed
      TrainBatch. Row i (float32) holds the metrics of step i, averaged over replicas, and then
      COUNTS, summed over the batch. views, float32 (3, s, s, 3), are previews of the last batch.
      waits, float64 (num_steps,), are the seconds that this worker's devices waited for the batch
      of step i: from the update of the weights in step i - 1, or from the start of the call, until
      the batch arrived.
    """
    columns = len(metric_names) + len(COUNTS)
    uses_labels = "supervised_acc" in metric_names
    clock, local_results = _Clock(strategy), strategy.experimental_local_results

    @tf.autograph.experimental.do_not_convert  # AutoGraph would convert the Python `if`s
    def replica_step(batch: TrainBatch, is_last: tf.Tensor):
        """Takes one step on one replica.

        Returns:
          Its row, the previews in the last step, and a number that is computed after the update.
        """
        metrics = step_fn(batch)
        updated = tf.reshape(tf.convert_to_tensor(compat.tf_variable(last_updated)), [-1])[0]
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
        return row, views, updated

    @tf.function
    def run_steps(iterator, num_steps):
        """Takes num_steps steps on all replicas."""
        rows = tf.TensorArray(tf.float32, num_steps, element_shape=(columns,))
        waits = tf.TensorArray(tf.float64, num_steps, element_shape=(2,))
        views = tf.zeros((0, image_size, image_size, 3))
        updated = tf.constant(0.0)
        for i in tf.range(num_steps):
            tf.autograph.experimental.set_loop_options(
                shape_invariants=[(views, tf.TensorShape((None, image_size, image_size, 3)))]
            )
            idle_since, marker = clock.time_of_number(updated)
            batch = next(iterator)
            waits = waits.write(i, tf.stack([clock.time_after(batch) - idle_since, marker]))
            is_last = tf.equal(i, num_steps - 1)
            row, views, updated = strategy.run(replica_step, args=(batch, is_last))
            views, updated = local_results(views)[0], local_results(updated)[0]
            rows = rows.write(i, strategy.reduce(tf.distribute.ReduceOp.MEAN, row, axis=None))
        return rows.stack(), views, tf.maximum(waits.stack()[:, 0], 0.0)

    return run_steps


class _Clock:
    """Tells in a graph when tensors were computed. No operation of the step waits for the clock.

    TensorFlow runs the stateful operations of a graph one after the other, and tf.timestamp and
    collectives are such operations. So tf.timestamp is in a function that reads a variable: it is
    only ordered with updates of this variable, and there are none. The loop itself starts step
    i + 1 only after the times of step i are known. These are the end of step i - 1 and the arrival
    of batch i, so a GPU always has the whole step i to compute meanwhile.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        """Makes the clock on the host of the first device of this worker."""
        device = tf.DeviceSpec.from_string(strategy.extended.worker_devices[0])
        self._host = device.replace(device_type="CPU", device_index=0)
        with tf.device(self._host):
            self._variable = tf.Variable(0.0, trainable=False)

    @tf.function(autograph=False)
    def _now(self) -> tf.Tensor:
        with tf.device(self._host), tf.control_dependencies([self._variable.read_value()]):
            return tf.timestamp()

    def time_after(self, tensors: Any) -> tf.Tensor:
        """Returns the time at which the tensors are there, float64 () in seconds.

        Tensors of a GPU are there when the GPU was told to compute them.
        """
        with tf.control_dependencies(tf.nest.flatten(tensors, expand_composites=True)):
            return self._now()

    def time_of_number(self, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the time at which a device has computed a number (), and the number as float64.

        The number reaches the host only when the device has computed it. Both results must be
        used: TensorFlow would remove the copy to the host if nothing used the number.
        """
        with tf.device(self._host):
            on_host = tf.cast(number, tf.float64)
        return self.time_after(on_host), on_host
