"""Several workers: processes that run the same program together, usually on several machines.

Only one worker, the chief, writes files. Decisions that depend on a clock, a signal or a file must
agree on all workers, so they go through `mean_over_workers`. All workers must call such a function
at the same point, or they wait for each other forever. A single worker exchanges nothing.
"""

import contextlib
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_simclr import compat

TRAINING_JOBS = ("chief", "worker")


class WorkerLost(Exception):
    """Another worker of the cluster was lost. Restart all workers to resume."""


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of processes that share a strategy; 1 unless it is multi_worker."""
    resolver = strategy.cluster_resolver
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or resolver is None:
        return 1
    jobs = resolver.cluster_spec().as_dict()
    return sum(len(jobs.get(job, ())) for job in TRAINING_JOBS) or 1


def names(strategy: tf.distribute.Strategy) -> list[str]:
    """Returns the names of the workers for messages, such as "worker 1", the chief first."""
    if num_workers(strategy) == 1:
        return ["worker 0"]
    jobs = strategy.cluster_resolver.cluster_spec().as_dict()
    return [f"{job} {task}" for job in TRAINING_JOBS for task in range(len(jobs.get(job, ())))]


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this worker writes the checkpoints, summaries, exports and progress."""
    return strategy.extended.should_checkpoint


def mean_over_workers(
    strategy: tf.distribute.Strategy, values: Sequence[float] | np.ndarray
) -> np.ndarray:
    """Averages each value over the workers.

    All workers must call it at the same point. It waits for the last worker, so it is also a
    barrier.

    Returns:
      float32 of the shape of the values, the same on all workers.
    """
    if num_workers(strategy) == 1:
        return np.array(values, np.float32)
    return _mean_over_replicas(strategy)(tf.constant(values, tf.float32)).numpy()


def from_chief(strategy: tf.distribute.Strategy, value: int) -> int:
    """Returns the chief's value (0 to 2**32 - 1). All workers must call it at the same point."""
    halves = divmod(value if is_chief(strategy) else 0, 2**16)  # float32 is exact up to 2**24
    high, low = mean_over_workers(strategy, halves) * num_workers(strategy)
    return int(round(high)) * 2**16 + int(round(low))


def all_same(strategy: tf.distribute.Strategy, value: int) -> bool:
    """Returns whether all workers call it with the same value (0 to 2**32 - 1).

    All workers must call it at the same point, and all get the same answer.
    """
    same = from_chief(strategy, value) == value
    return mean_over_workers(strategy, [same])[0] == 1


def gather_texts(strategy: tf.distribute.Strategy, text: str) -> list[str]:
    """Collects one text from each worker. All workers must call it at the same point.

    Returns:
      The same list on all workers, the chief's text first.
    """
    size = num_workers(strategy)
    if size == 1:
        return [text]
    content = np.frombuffer(text.encode(errors="surrogateescape"), np.uint8)
    resolver = strategy.cluster_resolver
    row = names(strategy).index(f"{resolver.task_type} {resolver.task_id}")

    def sum_over_workers(values: np.ndarray) -> np.ndarray:
        return np.rint(mean_over_workers(strategy, values) * size).astype(np.int64)

    # Each worker fills one row and leaves the rest 0, so the sum holds the rows of all workers.
    length = np.zeros(size, np.float32)
    length[row] = len(content)
    lengths = sum_over_workers(length)
    encoded = np.zeros((size, max(1, lengths.max())), np.float32)
    encoded[row, : len(content)] = content
    texts = sum_over_workers(encoded).astype(np.uint8)
    return [
        values[:length].tobytes().decode(errors="surrogateescape")
        for values, length in zip(texts, lengths, strict=True)
    ]


@functools.lru_cache(maxsize=1)
def _mean_over_replicas(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    @tf.function
    def mean(values):
        per_replica = strategy.run(tf.identity, args=(values,))
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, per_replica, axis=None)

    return mean


def local_variable(variable: Any) -> tf.Variable:
    """Returns the copy of a Keras variable that the first replica of this process holds.

    Reading the copy moves no data. Reading the distributed variable may reduce it over all workers
    and then waits for them, as with the moving averages of Keras 2.
    """
    variable = compat.tf_variable(variable)
    if isinstance(variable, tf.distribute.DistributedValues):
        return variable.values[0]
    return variable


def average_over_replicas(strategy: tf.distribute.Strategy, variables: Sequence) -> None:
    """Averages variables whose values differ between replicas, on all workers.

    Args:
      strategy: the strategy under which the variables were created.
      variables: Keras variables. Each replica's copy is set to the mean over the replicas.
    """
    variables = [compat.tf_variable(v) for v in variables]
    if strategy.num_replicas_in_sync == 1 or not variables:
        return
    means = _means_over_replicas(strategy, tuple(v.ref() for v in variables))
    for variable, mean in zip(variables, means(), strict=True):
        for part in variable.values:
            part.assign(mean)


@contextlib.contextmanager
def averaged_over_replicas(strategy: tf.distribute.Strategy, variables: Sequence) -> Iterator[None]:
    """Averages variables like `average_over_replicas`, and restores their values at the end."""
    replica_parts = []
    if strategy.num_replicas_in_sync > 1:
        replica_parts = [part for v in variables for part in compat.tf_variable(v).values]
    values = [part.read_value() for part in replica_parts]
    average_over_replicas(strategy, variables)
    try:
        yield
    finally:
        for part, value in zip(replica_parts, values, strict=True):
            part.assign(value)


@functools.lru_cache(maxsize=1)  # trace once, not at each checkpoint
def _means_over_replicas(
    strategy: tf.distribute.Strategy, references: tuple
) -> Callable[[], list[tf.Tensor]]:
    """Makes a function that computes the means of variables, given as `variable.ref()`."""
    variables = [reference.deref() for reference in references]

    @tf.function
    def means():
        values = strategy.run(lambda: [tf.identity(v) for v in variables])
        return [strategy.reduce(tf.distribute.ReduceOp.MEAN, v, axis=None) for v in values]

    return means


@contextlib.contextmanager
def raise_worker_lost(strategy: tf.distribute.Strategy | None) -> Iterator[None]:
    """Turns the error that TensorFlow raises when another worker disappears into WorkerLost.

    TensorFlow notices a lost connection at once. It notices a silent worker after about ten
    seconds, by the heartbeat of its coordination service.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if strategy is None or num_workers(strategy) == 1 or not _is_loss(error):
            raise
        resolver = strategy.cluster_resolver
        tasks = re.findall(r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)", _reason_of_abort(error))
        lost = ", ".join(sorted({f"{job} {task}" for job, task in tasks})) or "another worker"
        raise WorkerLost(
            f"{lost} was lost, so this worker, {resolver.task_type} {resolver.task_id}, stops: "
            "restart all workers to resume from the last checkpoint"
        ) from error


def _is_loss(error: tf.errors.OpError) -> bool:
    error_types = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
        tf.errors.InternalError,
    )
    return isinstance(error, error_types) and bool(_reason_of_abort(error))


def _reason_of_abort(error: tf.errors.OpError) -> str:
    """Returns the text after "Collective ops is aborted by" in the message, or ""."""
    return error.message.partition("Collective ops is aborted by")[2]


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
    """Waits until all workers have called it."""
    mean_over_workers(strategy, [0.0])
