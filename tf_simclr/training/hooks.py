"""What happens on the host between calls of the device, each every so many steps.

The loop calls the hooks in the order in which they are listed (modes/train.py), and that order
matters: a loss that is not finite must be found before it is saved, and an evaluation must come
before the checkpoint of its step, so that a run that is killed in between evaluates it again.
"""

import contextlib
import dataclasses
import math
import signal
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tf_simclr.checkpoints.run_checkpoints import Checkpointer


class NotFinite(Exception):
    """The loss has become NaN or infinite."""


class Stopped(Exception):
    """A worker was asked to stop by a signal, and the run has left a checkpoint.

    Attributes:
      signal: the signal's number.
    """

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal = signal_number


@dataclasses.dataclass(frozen=True)
class Chunk:
    """The steps of one call of the device.

    Attributes:
      first_step: steps taken before it.
      last_step: steps taken after it.
      total_steps: steps of the run.
      metrics: (steps, metrics), means over the replicas.
      counts: (steps, len(COUNTS)), sums over the batch.
      views: float32 (k, s, s, 3), for pictures.
      seconds: the call's time; None for the first call, which also compiles.
      stop_signal: number of the signal by which a worker was asked to stop, if any.
    """

    first_step: int
    last_step: int
    total_steps: int
    metrics: np.ndarray
    counts: np.ndarray
    views: tf.Tensor
    seconds: float | None
    stop_signal: int | None

    @property
    def is_end(self) -> bool:
        """Whether training ends here."""
        return self.last_step == self.total_steps


class Hook(contextlib.AbstractContextManager):
    """Base of the hooks: does nothing. A hook is entered before training and left after it."""

    def next_boundary(self, step: int) -> float:
        """Returns the next step at which the device must return to the host."""
        return math.inf

    def before(self, step: int) -> None:
        """Runs before the device goes on from `step`."""

    def after(self, chunk: Chunk) -> None:
        """Runs after the device has returned."""

    def __exit__(self, *_) -> None:
        """Closes what the hook holds open, after an error, too."""


def next_multiple(step: int, interval: int) -> int:
    """Returns the smallest multiple of the interval above `step`."""
    return (step // interval + 1) * interval


class RequireFinite(Hook):
    """Ends the run at the first loss that is NaN or infinite."""

    def __init__(
        self, metric_names: Sequence[str], checkpointer: Checkpointer, learning_rate: Callable
    ):
        self._column = metric_names.index("total_loss")
        self._checkpointer, self._learning_rate = checkpointer, learning_rate

    def after(self, chunk: Chunk) -> None:
        losses = chunk.metrics[:, self._column]
        bad = np.flatnonzero(~np.isfinite(losses))
        if not len(bad):
            return
        step = chunk.first_step + int(bad[0])
        raise NotFinite(
            f"the loss is {losses[bad[0]]} in step {step + 1} at learning rate "
            f"{float(self._learning_rate(step)):.4g}; the last good checkpoint is "
            f"{self._checkpointer.latest or 'none'}: lower --learning_rate or raise "
            "--warmup_epochs"
        )


class Evaluations(Hook):
    """Evaluates every so many steps, but not at the end, where the run does so anyway."""

    def __init__(self, evaluate: Callable[[], object], *, every_steps: int):
        self._evaluate, self._every_steps = evaluate, every_steps

    def next_boundary(self, step: int) -> float:
        return next_multiple(step, self._every_steps)

    def after(self, chunk: Chunk) -> None:
        if chunk.last_step % self._every_steps == 0 and not chunk.is_end:
            self._evaluate()


class Checkpoints(Hook):
    """Saves every so many steps, at the end, and when the run is asked to stop: it then stops."""

    def __init__(self, checkpointer: Checkpointer, flush: Callable[[], None], *, every_steps: int):
        self._checkpointer, self._flush = checkpointer, flush
        self._every_steps = every_steps

    def next_boundary(self, step: int) -> float:
        return next_multiple(step, self._every_steps)

    def after(self, chunk: Chunk) -> None:
        if chunk.last_step % self._every_steps == 0 or chunk.is_end or chunk.stop_signal:
            self._checkpointer.save()
            self._flush()
        if chunk.stop_signal and not chunk.is_end:
            raise Stopped(
                chunk.stop_signal,
                f"{signal.Signals(chunk.stop_signal).name}: stopped at step {chunk.last_step} of "
                f"{chunk.total_steps}, saved as {self._checkpointer.latest}; the same command goes "
                "on from there",
            )


class Trace(Hook):
    """Traces some of the steps for TensorBoard's profiler.

    Only the chief worker writes the trace. The other workers need this hook all the same, because
    all workers must take the same number of steps in a call.
    """

    def __init__(self, directory: str, first: int, last: int, *, writes: bool = True):
        """Prepares a trace from step `first` to step `last` in directory/plugins/profile."""
        self._directory, self._first, self._last = directory, first, last
        self._writes, self._running = writes, False

    def next_boundary(self, step: int) -> float:
        return min((at for at in (self._first, self._last) if at > step), default=math.inf)

    def before(self, step: int) -> None:
        wanted = self._writes and self._first <= step < self._last
        if wanted and not self._running:
            tf.profiler.experimental.start(self._directory)
            self._running = True
        elif self._running and not wanted:
            self._stop()

    def _stop(self) -> None:
        tf.profiler.experimental.stop()
        self._running = False

    def __exit__(self, *_) -> None:
        if self._running:
            self._stop()
