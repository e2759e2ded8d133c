"""Hooks that report on training: metrics, speed, a progress bar, and summaries."""

import math
import sys
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tf_simclr.console import progress
from tf_simclr.training import metrics_file, summaries
from tf_simclr.training.device_loop import COUNTS, NUM_SUMMARY_IMAGES
from tf_simclr.training.hooks import Chunk, Hook, next_multiple

IMAGES_EVERY = 10  # summaries; images take far more space than scalars
_COUNT_MESSAGES = {
    "skipped_examples": "undecodable examples were replaced in steps {first} to {last} "
    "(--strict_data makes this an error)",
    "unlabelled_examples": "examples without a label were left out of the supervised loss in steps "
    "{first} to {last}",
}


def open_writers(
    model_dir: str, step: int, *, writes: bool
) -> tuple[tf.summary.SummaryWriter, metrics_file.Writer | None]:
    """Opens the event file and metrics.jsonl of a run that starts or resumes.

    A run that was killed may have written summaries after its last checkpoint. They are removed.

    Args:
      model_dir: directory of the run.
      step: number of steps taken so far.
      writes: whether this worker writes files.

    Returns:
      The writer of the event file, which does nothing if writes is False, and the writer of
      metrics.jsonl, or None.

    Raises:
      ConfigError: a file cannot be read or written.
    """
    if not writes:
        return tf.summary.create_noop_writer(), None
    summaries.drop_training_after(model_dir, step)
    metrics_file.drop_after(model_dir, step)
    return tf.summary.create_file_writer(model_dir), metrics_file.Writer(model_dir)


class Metrics(Hook):
    """Averages the metrics and sums the counts since the last `pop`.

    It sums step by step in float64. The sums do not depend on how steps are grouped into calls.
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
        """Returns the means and counts since the last pop, and resets them.

        The number of unlabeled examples is reported only if the run has seen any.
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


class Speed(Hook):
    """Measures the images per second and the share of time in which the devices wait for data.

    The first call, which also compiles, is left out.
    """

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._num_steps, self._seconds, self._waited = 0, 0.0, 0.0

    def after(self, chunk: Chunk) -> None:
        if chunk.seconds is not None:
            self._num_steps += chunk.last_step - chunk.first_step
            self._seconds += chunk.seconds
            self._waited += float(chunk.waits.sum())

    def pop(self) -> dict[str, float]:
        """Returns the figures since the last pop, and resets them; empty if nothing was measured.

        input_wait is in [0, 1].
        """
        if not self._num_steps:
            return {}
        figures = {
            "images_per_second": self._batch_size * self._num_steps / self._seconds,
            # On several workers the time is a mean over the workers, the wait is the chief's.
            "input_wait": min(1.0, self._waited / self._seconds),
        }
        self._num_steps, self._seconds, self._waited = 0, 0.0, 0.0
        return figures


class Progress(Hook):
    """Shows images per second, loss and accuracies: a bar on a terminal, lines in a log."""

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
        # total_loss includes the loss of the supervised head, which does not train the encoder.
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
    """Writes means, counts, speed and learning rate for TensorBoard and to metrics.jsonl.

    TensorBoard also gets images: with IMAGES_EVERY = 10, in summaries 1, 11, 21, ... of the run and
    in the last one.
    """

    def __init__(
        self,
        writer: tf.summary.SummaryWriter,
        metrics: Metrics,
        speed: Speed,
        learning_rate: Callable,
        *,
        every_steps: int,
        records: metrics_file.Writer | None,
        to_record: Callable[[str, int, dict[str, float]], metrics_file.Record],
    ):
        """Prepares the summaries. The hook closes both writers when training ends.

        Args:
          writer: writer of the run's event file.
          metrics: the hook that averages the metrics; it must come before this hook.
          speed: the hook that measures the speed; it must come before this hook.
          learning_rate: function from step to learning rate.
          every_steps: steps between summaries; 0 for one summary at the end.
          records: writer of the run's metrics.jsonl; None on a worker that writes no files.
          to_record: (kind, step, {tag: value}) -> record (`RunState.record`).
        """
        self._writer, self._metrics, self._speed = writer, metrics, speed
        self._learning_rate, self._every_steps = learning_rate, every_steps
        self._records, self._to_record = records, to_record

    def next_boundary(self, step: int) -> float:
        return next_multiple(step, self._every_steps) if self._every_steps else math.inf

    def after(self, chunk: Chunk) -> None:
        step, every = chunk.last_step, self._every_steps
        if not chunk.is_end and (not every or step % every):
            return
        popped = self._metrics.pop() | self._speed.pop()
        values = {f"train/{name}": value for name, value in popped.items()}
        values["learning_rate"] = float(self._learning_rate(step))
        with self._writer.as_default(step=step):
            for tag, value in values.items():
                tf.summary.scalar(tag, value)
            if chunk.is_end or step // every % IMAGES_EVERY == 1:
                tf.summary.image("image", chunk.views, max_outputs=NUM_SUMMARY_IMAGES)
        if self._records is not None:
            self._records.write(self._to_record(metrics_file.TRAIN, step, values))

    def flush(self) -> None:
        """Flushes the summaries to disk."""
        self._writer.flush()

    def __exit__(self, *_) -> None:
        self._writer.close()
        if self._records is not None:
            self._records.close()
