"""Groups of examples, on which one call of a map function works.

Each group has a fixed cost of some milliseconds, so groups of one would be slow. Each core holds
one or two groups, so full batches may not fit in memory.
"""

import math
import os
from collections.abc import Callable

import tensorflow as tf

_SMALLEST_GROUP, _LARGEST_GROUP = 32, 256
_GROUP_BYTES, _BATCH_BYTES = 20_000_000, 80_000_000
_PREFETCHED_BATCHES = 2


def examples_in_group(spec: tf.TensorSpec, batch_size: int = 0) -> int:
    """Returns how many examples to map at a time.

    The number is a power of two, which divides most batch sizes, from 32 to 256. Above 32 it keeps
    the views within 20 MB. If the views of a batch take at most 80 MB, the batch is one group, and
    is not copied.

    Args:
      spec: shape and dtype of an example's views.
      batch_size: examples per batch, if the groups become batches.
    """
    size = math.prod(spec.shape) * spec.dtype.size
    if _SMALLEST_GROUP <= batch_size <= min(_LARGEST_GROUP, _BATCH_BYTES // size):
        return batch_size
    fitting = max(1, _GROUP_BYTES // size)
    return max(_SMALLEST_GROUP, min(_LARGEST_GROUP, 2 ** int(math.log2(fitting))))


def group_size(step_size: int, batch_size: int, wanted: int) -> int:
    """Returns a divisor of the batch, if possible at least `wanted`; of the step for small batches.

    A group is never larger than a step, so stand-ins depend only on the step.

    Args:
      step_size: examples per step in this input pipeline, a multiple of batch_size.
      batch_size: examples per batch.
      wanted: size of a group, from examples_in_group.
    """
    largest = batch_size if batch_size >= _SMALLEST_GROUP else step_size
    return next((n for n in range(wanted, largest) if largest % n == 0), largest)


def parallel_map(
    dataset: tf.data.Dataset, function: Callable, *, threads_per_core: int = 1
) -> tf.data.Dataset:
    """Maps groups of examples in order, several at a time, in a separate thread pool."""
    options, num_threads = tf.data.Options(), threads_per_core * num_cores()
    # Groups keep the cores busy. Parallelizing single ops would not help, and more threads than
    # cores would only compete for the caches.
    options.threading.max_intra_op_parallelism = 1
    options.threading.private_threadpool_size = num_threads
    return dataset.map(
        tf.autograph.experimental.do_not_convert(function),
        num_parallel_calls=num_threads,
        deterministic=True,
    ).with_options(options)


def prefetched(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Prefetches two batches, and sets the options of a whole pipeline.

    tf.data does not tune the pipeline. The thread that tunes sleeps up to a minute between its
    turns. When an iterator is deleted, it often misses that it should stop, because TensorFlow
    wakes it just before it says so. A run would then wait for it at its end.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.deterministic = True
    # Each shard already reads only its part; automatic sharding on top would drop examples.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.prefetch(_PREFETCHED_BATCHES).with_options(options)


def from_memory(
    examples: tf.data.Dataset, num_examples: int, indices: tf.data.Dataset, function: Callable
) -> tuple[tf.data.Dataset, Callable]:
    """Makes groups of examples that are rows of tensors in memory.

    Args:
      examples: all examples, in the order of their indices.
      num_examples: number of examples.
      indices: groups of (positions in the stream, indices of examples), int64 (n,) each.
      function: the function to map over groups of (positions, examples).

    Returns:
      A dataset, and the function to map over it. It selects the rows and calls `function`.
    """

    def take_rows(indices: tuple, examples: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        positions, rows = indices
        return function(positions, {name: tf.gather(t, rows) for name, t in examples.items()})

    stored = examples.batch(num_examples).cache().repeat()
    return tf.data.Dataset.zip((indices, stored)), take_rows


def to_batches(dataset: tf.data.Dataset, group_size: int, batch_size: int) -> tf.data.Dataset:
    """Regroups a dataset from elements of group_size examples to elements of batch_size."""
    if batch_size % group_size:
        return dataset.unbatch().batch(batch_size, drop_remainder=True)
    if batch_size == group_size:
        return dataset  # one copy less
    # This copies the views once; unbatching would copy them twice.
    return dataset.batch(batch_size // group_size, drop_remainder=True).map(
        lambda groups: tf.nest.map_structure(
            lambda part: tf.reshape(part, (-1, *part.shape[2:])), groups
        )
    )


def num_cores() -> int:
    """Returns how many cores this process may use, if the system tells; else all cores."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
