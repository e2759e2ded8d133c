"""Several workers: processes, as a rule on several machines, that run the same program together.

One of them, the chief, writes for all. What must be the same on all of them, but depends on a
clock, a signal or a file, goes through `mean_over_workers`; whoever calls it must do so on all
workers at the same point. With one worker everything here does nothing.
"""

import contextlib
import functools
import re
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_simclr import compat

TRAINING_JOBS = ("chief", "worker")


class WorkerLost(Exception):
    """Another worker of the cluster is gone; the run can be started again on all of them."""


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """How many processes share the strategy; 1 for all but multi_worker."""
    resolver = strategy.cluster_resolver
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or resolver is None:
        return 1
    jobs = resolver.cluster_spec().as_dict()
    return sum(len(jobs.get(job, ())) for job in TRAINING_JOBS) or 1


def names(strategy: tf.distribute.Strategy) -> list[str]:
    """The workers as messages call them, such as "worker 1", the chief first."""
    if num_workers(strategy) == 1:
        return ["worker 0"]
    jobs = strategy.cluster_resolver.cluster_spec().as_dict()
    return [f"{job} {task}" for job in TRAINING_JOBS for task in range(len(jobs.get(job, ())))]


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """True on the one worker that writes checkpoints, summaries, exports and progress."""
    return strategy.extended.should_checkpoint


def mean_over_workers(strategy: tf.distribute.Strategy, values: Sequence[float]) -> np.ndarray:
    """The mean over the workers of each value, float32: the same on all of them.

    All workers must call it at the same point; it also waits for the last of them. With one worker
    the values come back as they are.
    """
    if num_workers(strategy) == 1:
        return np.array(values, np.float32)
    return _mean_over_replicas(strategy)(tf.constant(values, tf.float32)).numpy()


def from_chief(strategy: tf.distribute.Strategy, number: int) -> int:
    """The chief's number (0 to 2**32 - 1), on all workers; all must call it at the same point."""
    halves = divmod(number if is_chief(strategy) else 0, 2**16)  # float32 is exact up to 2**24
    high, low = mean_over_workers(strategy, halves) * num_workers(strategy)
    return int(round(high)) * 2**16 + int(round(low))


def all_same(strategy: tf.distribute.Strategy, number: int) -> bool:
    """Whether all workers call with the same number (0 to 2**32 - 1); all get the same answer."""
    same = from_chief(strategy, number) == number
    return mean_over_workers(strategy, [same])[0] == 1


def gather_texts(strategy: tf.distribute.Strategy, text: str) -> list[str]:
    """One text from each worker, the chief's first; the same list on all of them.

    All must call it at the same point.
    """
    number = num_workers(strategy)
    if number == 1:
        return [text]
    content = np.frombuffer(text.encode(errors="surrogateescape"), np.uint8)
    resolver = strategy.cluster_resolver
    row = names(strategy).index(f"{resolver.task_type} {resolver.task_id}")

    def sum_over_workers(values: np.ndarray) -> np.ndarray:
        return np.rint(mean_over_workers(strategy, values) * number).astype(np.int64)

    # A sum in which each worker fills one row, and the others hold zeros there.
    lengths = np.zeros(number, np.float32)
    lengths[row] = len(content)
    lengths = sum_over_workers(lengths)
    rows = np.zeros((number, max(1, lengths.max())), np.float32)
    rows[row, : len(content)] = content
    rows = sum_over_workers(rows).astype(np.uint8)
    return [
        values[:length].tobytes().decode(errors="surrogateescape")
        for values, length in zip(rows, lengths, strict=True)
    ]


@functools.lru_cache(maxsize=1)
def _mean_over_replicas(strategy):
    @tf.function
    def mean(values):
        per_replica = strategy.run(tf.identity, args=(values,))
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, per_replica, axis=None)

    return mean


def local_variable(variable) -> tf.Variable:
    """The part of a variable that this process's first replica holds.

    Reading it moves nothing. Reading the whole may reduce over all workers, and then waits for them
    (Keras 2's moving averages).
    """
    variable = compat.tf_variable(variable)
    if isinstance(variable, tf.distribute.DistributedValues):
        return variable.values[0]
    return variable


def average_over_replicas(strategy: tf.distribute.Strategy, variables: Sequence):
    """Sets variables of which each replica holds its own value to their mean, on all workers."""
    variables = [compat.tf_variable(v) for v in variables]
    if strategy.num_replicas_in_sync == 1 or not variables:
        return
    means = _means_over_replicas(strategy, tuple(v.ref() for v in variables))
    for variable, mean in zip(variables, means(), strict=True):
        for part in variable.values:
            part.assign(mean)


@functools.lru_cache(maxsize=1)  # traced once, and not at each checkpoint
def _means_over_replicas(strategy, references: tuple):
    """A function () -> the means of variables, given by their `ref()`."""
    variables = [reference.deref() for reference in references]

    @tf.function
    def means():
        own = strategy.run(lambda: [tf.identity(v) for v in variables])
        return [strategy.reduce(tf.distribute.ReduceOp.MEAN, v, axis=None) for v in own]

    return means


@contextlib.contextmanager
def lost_workers_named(strategy: tf.distribute.Strategy | None):
    """Turns what TensorFlow raises when another worker disappears into WorkerLost.

    TensorFlow notices a lost connection at once, and a silent worker after some ten seconds
    (the heartbeat of its coordination service).
    """
    try:
        yield
    except tf.errors.OpError as error:
        if strategy is None or num_workers(strategy) == 1 or not _is_loss(error):
            raise
        resolver = strategy.cluster_resolver
        named = re.findall(r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)", _aborted(error))
        who = ", ".join(sorted({f"{job} {task}" for job, task in named})) or "another worker"
        raise WorkerLost(
            f"{who} is gone, so this one, {resolver.task_type} {resolver.task_id}, stops: start "
            "all workers again, and the run goes on from its last checkpoint"
        ) from error


def _is_loss(error: tf.errors.OpError) -> bool:
    lost = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
        tf.errors.InternalError,
    )
    return isinstance(error, lost) and bool(_aborted(error))


def _aborted(error: tf.errors.OpError) -> str:
    """What stands in the message after "Collective ops is aborted", or ""."""
    return error.message.partition("Collective ops is aborted by")[2]


def wait_for_all(strategy: tf.distribute.Strategy):
    """Returns when all workers have called it."""
    mean_over_workers(strategy, [0.0])
