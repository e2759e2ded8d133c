"""Hooks that the host runs between calls to the device. Some act only every N steps.

The loop calls the hooks in the order of the list in modes/run_hooks.py. The order matters. NaN
weights must never be saved, so RequireFinite comes first. An evaluation comes before the checkpoint
of its step: a run that is killed between the two evaluates that step again.
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
    """A signal asked a worker to stop. The run has saved a checkpoint and ends.

    Attributes:
      signal: number of the signal.
    """

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal = signal_number


class NoLongerImproves(Exception):
    """The metric of --best_metric has not improved for --stop_after measurements."""


@dataclasses.dataclass(frozen=True)
class Chunk:
    """The steps of one call to the device.

    Attributes:
      first_step: number of steps taken before the call.
      last_step: number of steps taken after the call.
      total_steps: steps of the run.
      metrics: (steps, metrics), averaged over the replicas.
      counts: (steps, len(COUNTS)), summed over the batch.
      views: float32 (k, s, s, 3), views of the last batch for the summaries.
      waits: float64 (steps,), seconds that the devices of this worker waited for the batch.
      seconds: duration of the call; None for the first call, which also compiles.
      stop_signal: the signal that asked a worker to stop; None if there was none.
    """

    first_step: int
    last_step: int
    total_steps: int
    metrics: np.ndarray
    counts: np.ndarray
    views: tf.Tensor
    waits: np.ndarray
    seconds: float | None
    stop_signal: int | None

    @property
    def is_end(self) -> bool:
        """Returns whether training ends with this chunk."""
        return self.last_step == self.total_steps


class Hook(contextlib.AbstractContextManager):
    """Base class of the hooks. A hook is entered before training and exited after it."""

    def next_boundary(self, step: int) -> float:
        """Returns the next step at which the loop must return to Python."""
        return math.inf

    def before(self, step: int) -> None:
        """Runs before the device continues from `step`."""

    def after(self, chunk: Chunk) -> None:
        """Runs after the device has returned."""

    def __exit__(self, *_) -> None:
        """Closes the hook's open files, also after an error."""


def next_multiple(step: int, interval: int) -> int:
    """Returns the smallest multiple of the interval that is greater than `step`."""
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
    """Evaluates every `every_steps` steps, except at the end, when the run evaluates anyway."""

    def __init__(self, evaluate: Callable[[], object], *, every_steps: int):
        self._evaluate, self._every_steps = evaluate, every_steps

    def next_boundary(self, step: int) -> float:
        return next_multiple(step, self._every_steps)

    def after(self, chunk: Chunk) -> None:
        if chunk.last_step % self._every_steps == 0 and not chunk.is_end:
            self._evaluate()


class Checkpoints(Hook):
    """Saves every `every_steps` steps, at the end, and on a stop request.

    After a stop request it raises Stopped, unless that was the run's last step.
    """

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
                f"{chunk.total_steps}, saved as {self._checkpointer.latest}; the same command "
                "resumes from there",
            )


class EarlyStop(Hook):
    """Ends the run when it no longer improves. It comes last, after the measurements."""

    def __init__(
        self, checkpointer: Checkpointer, reason: Callable[[], str | None], *, every_steps: int
    ):
        """Prepares the hook.

        Args:
          checkpointer: saves the last step.
          reason: returns why the run should end now; None if it should not. All workers agree.
          every_steps: steps between the measurements that the reason depends on.
        """
        self._checkpointer, self._reason = checkpointer, reason
        self._every_steps = every_steps

    def after(self, chunk: Chunk) -> None:
        if chunk.is_end or chunk.last_step % self._every_steps:
            return
        if reason := self._reason():
            self._checkpointer.save()
            raise NoLongerImproves(reason)


class Trace(Hook):
    """Traces some of the steps for TensorBoard's profiler.

    Only the chief writes the trace. All workers need the hook, because they must all take the same
    number of steps per call.
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
