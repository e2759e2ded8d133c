"""What happens on the host between calls of the device, each every so many steps.

The loop calls the hooks in the order in which they are listed (modes/train.py), and that order
matters: a loss that is not finite must be found before it is saved, and an evaluation must come
before the checkpoint of its step, so that a run that is killed in between evaluates it again.
"""

import contextlib
import dataclasses
import math
import signal
import sys
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tf_simclr.checkpoints.run_checkpoints import Checkpointer
from tf_simclr.console import progress
from tf_simclr.training.device_loop import COUNTS, NUM_SUMMARY_IMAGES

PICTURES_EVERY = 10  # summaries: pictures take far more space than scalars
_COUNT_MESSAGES = {
    "skipped_examples": "undecodable examples were replaced by others in steps {first} to {last} "
    "(--strict_data makes this an error)",
    "unlabelled_examples": "examples without a label were left out of the supervised loss in steps "
    "{first} to {last}",
}


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


class Metrics(Hook):
    """Means of the metrics, and sums of the counts, since they were last popped.

    Sums are taken step by step in float64, so that they do not depend on how many steps a call had.
    """

    def __init__(self, names: Sequence[str], *, first_step: int, is_chief: bool):
        self._names, self._first_step, self._is_chief = names, first_step, is_chief
        self._last_step = first_step
        self._sums, self._num_steps = np.zeros(len(names)), 0
        self._totals = np.zeros(len(COUNTS), int)
        self._popped = np.zeros(len(COUNTS), int)

    def after(self, chunk: Chunk) -> None:
        for row in chunk.metrics:
            self._sums = self._sums + row
        self._num_steps += len(chunk.metrics)
        self._last_step = chunk.last_step
        self._totals = self._totals + np.rint(chunk.counts.sum(axis=0)).astype(int)

    def means(self) -> dict[str, float]:
        """Returns the means of the metrics since the last pop."""
        return dict(zip(self._names, (self._sums / self._num_steps).tolist(), strict=True))

    def pop(self) -> dict[str, float]:
        """Returns means and counts since the last pop, and begins anew.

        Unlabelled examples are only counted where the run has met any.
        """
        means, since = self.means(), self._totals - self._popped
        self._sums, self._num_steps = np.zeros(len(self._names)), 0
        self._popped = self._totals
        counts = zip(COUNTS, since.tolist(), self._totals.tolist(), strict=True)
        return means | {
            name: count for name, count, total in counts if total or name == "skipped_examples"
        }

    def __exit__(self, *_) -> None:
        for name, total in zip(COUNTS, self._totals, strict=True):
            if total and self._is_chief:
                text = _COUNT_MESSAGES[name].format(first=self._first_step, last=self._last_step)
                print(f"{total} {text}", file=sys.stderr)


class Progress(Hook):
    """A progress bar on a terminal, lines in a log: images per second, loss, accuracies."""

    def __init__(
        self,
        description: str,
        metrics: Metrics,
        *,
        first_step: int,
        total_steps: int,
        batch_size: int,
        is_chief: bool,
    ):
        self._metrics, self._batch_size = metrics, batch_size
        self._bar = progress(
            total=total_steps,
            initial=first_step,
            desc=description,
            unit="step",
            leave=True,
            disable=not is_chief,
        )

    def __enter__(self):
        self._bar.__enter__()
        return self

    def after(self, chunk: Chunk) -> None:
        count = chunk.last_step - chunk.first_step
        rate = self._batch_size * count / chunk.seconds if chunk.seconds else None
        self._bar.set_postfix_str(self._text(rate), refresh=False)
        self._bar.update(count)

    def _text(self, images_per_second: float | None) -> str:
        means = self._metrics.means()
        # total_loss includes the loss of the supervised head, which only watches the pretraining.
        loss = means.get("contrast_loss", means["total_loss"])
        parts = [] if images_per_second is None else [f"{images_per_second:.0f} images/s"]
        parts.append(f"loss {loss:.3f}")
        for name in ("contrast_acc", "supervised_acc"):
            if name in means:
                parts.append(f"{name} {means[name]:.3f}")
        return ", ".join(parts)

    def __exit__(self, *error) -> None:
        self._bar.__exit__(*error)


class Summaries(Hook):
    """Writes means, counts, the learning rate and pictures for TensorBoard.

    Pictures go into the first summary, into every PICTURES_EVERY-th after it, and into the last.
    """

    def __init__(
        self,
        writer: tf.summary.SummaryWriter,
        metrics: Metrics,
        learning_rate: Callable,
        *,
        every_steps: int,
    ):
        """Takes over the writer, and closes it in the end.

        Args:
          every_steps: steps between summaries; 0 for one summary at the end.
        """
        self._writer, self._metrics, self._learning_rate = writer, metrics, learning_rate
        self._every_steps = every_steps

    def next_boundary(self, step: int) -> float:
        return next_multiple(step, self._every_steps) if self._every_steps else math.inf

    def after(self, chunk: Chunk) -> None:
        step, every = chunk.last_step, self._every_steps
        if not chunk.is_end and (not every or step % every):
            return
        with self._writer.as_default(step=step):
            for name, value in self._metrics.pop().items():
                tf.summary.scalar(f"train/{name}", value)
            tf.summary.scalar("learning_rate", self._learning_rate(step))
            if chunk.is_end or step // every % PICTURES_EVERY == 1:
                tf.summary.image("image", chunk.views, max_outputs=NUM_SUMMARY_IMAGES)

    def flush(self) -> None:
        """Brings what is written so far to disk."""
        self._writer.flush()

    def __exit__(self, *_) -> None:
        self._writer.close()


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

    def __init__(self, checkpointer: Checkpointer, summaries: Summaries, *, every_steps: int):
        self._checkpointer, self._summaries = checkpointer, summaries
        self._every_steps = every_steps

    def next_boundary(self, step: int) -> float:
        return next_multiple(step, self._every_steps)

    def after(self, chunk: Chunk) -> None:
        if chunk.last_step % self._every_steps == 0 or chunk.is_end or chunk.stop_signal:
            self._checkpointer.save()
            self._summaries.flush()
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
