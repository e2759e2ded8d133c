"""The training loop: a host loop over a tf.function that runs many steps at a time.

Of several workers each runs the loop. How many steps a call takes depends on the clock, and when to
stop on a signal that may reach one of them only, so both are agreed on after each call. (TensorFlow
has PreemptionCheckpointHandler for the second; it counts calls, which must then be the same on all
workers anyway, has all of them write, and ends the process itself.)
"""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tf_simclr.checkpoints.run_checkpoints import Checkpointer
from tf_simclr.console import progress
from tf_simclr.devices import workers

SECONDS_BETWEEN_UPDATES = 2.0  # how long the device runs without the host, about
NUM_SUMMARY_IMAGES = 3
PICTURES_EVERY = 10  # summaries: pictures take far more space than scalars
# Examples that are counted step by step, and what is said of them at the end.
COUNTS = {
    "skipped_examples": "undecodable examples were replaced by others in steps {first} to {last} "
    "(--strict_data makes this an error)",
    "unlabelled_examples": "examples without a label were left out of the supervised loss in steps "
    "{first} to {last}",
}
# Slurm sends SIGUSR1 some time before it ends a job (sbatch --signal). Windows has no such signal.
STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
)


class Stopped(Exception):
    """The run was asked to stop (STOP_SIGNALS), on any worker, and has left a checkpoint.

    Attributes:
      signal: the signal's number.
    """

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal = signal_number


class NotFinite(Exception):
    """The loss has become NaN or infinite."""


def make_run_steps(
    strategy,
    step_fn: Callable,
    metric_names: Sequence[str],
    image_size: int,
    preview: Callable = lambda images, number: images[:number, 0],
):
    """Makes the function that runs many training steps without the host.

    Args:
      strategy: on whose replicas step_fn runs.
      step_fn: (images, labels) -> {metric: ()}, one step on one replica.
      metric_names: the metrics that step_fn returns.
      image_size: side of the images, in pixels.
      preview: (images, number) -> first views, float32 (number, image_size, image_size, 3).

    Returns:
      A tf.function (iterator, num_steps ()) -> (the metrics' means over the replicas and, last, the
      sums of COUNTS over the batch (num_steps, len(metric_names) + 2), first views (3, image_size,
      image_size, 3) of the last step for the image summary). The iterator is over distributed
      batches (images, labels, skipped (n,): 1 where another example stands in for one).
    """
    columns = len(metric_names) + len(COUNTS)
    uses_labels = "supervised_acc" in metric_names

    @tf.autograph.experimental.do_not_convert  # what depends on tensors says so
    def replica_step(batch, is_last):
        labels, skipped = batch.labels, batch.skipped
        metrics = step_fn(batch)
        unlabelled = 1.0 - tf.reduce_sum(labels, axis=1) if uses_labels else tf.zeros(1)
        # The mean of these over the replicas is the sum over the batch.
        counts = (
            tf.reduce_sum(which) * strategy.num_replicas_in_sync for which in (skipped, unlabelled)
        )
        # One vector, so that it takes one reduction.
        stacked = tf.stack([*(metrics[name] for name in metric_names), *counts])
        number = min(NUM_SUMMARY_IMAGES, labels.shape[0] or NUM_SUMMARY_IMAGES)
        views = tf.cond(
            is_last,
            lambda: preview(batch, NUM_SUMMARY_IMAGES),
            lambda: tf.zeros((number, image_size, image_size, 3)),
        )
        return stacked, views

    @tf.function
    def run_steps(iterator, num_steps):
        rows = tf.TensorArray(tf.float32, num_steps, element_shape=(columns,))
        views = tf.zeros((0, image_size, image_size, 3))
        for i in tf.range(num_steps):
            tf.autograph.experimental.set_loop_options(
                shape_invariants=[(views, tf.TensorShape((None, image_size, image_size, 3)))]
            )
            is_last = tf.equal(i, num_steps - 1)
            metrics, views = strategy.run(replica_step, args=(next(iterator), is_last))
            views = strategy.experimental_local_results(views)[0]
            rows = rows.write(i, strategy.reduce(tf.distribute.ReduceOp.MEAN, metrics, axis=None))
        return rows.stack(), views

    return run_steps


def train(
    run_steps: Callable,
    iterator,
    *,
    metric_names: Sequence[str],
    strategy: tf.distribute.Strategy,
    checkpointer: Checkpointer,
    total_steps: int,
    checkpoint_steps: int,
    summary_steps: int,
    batch_size: int,
    learning_rate: Callable,
    writer: tf.summary.SummaryWriter,
    description: str,
    evaluate: Callable[[], object] | None = None,
    eval_every_steps: int = 0,
    trace: "Trace | None" = None,
):
    """Trains from the checkpointer's step to total_steps, exactly.

    Args:
      run_steps: of `make_run_steps`.
      iterator: over distributed batches, at the position of the checkpointer's step.
      metric_names: those of run_steps, total_loss among them.
      strategy: that of run_steps; its chief shows the progress.
      checkpointer: saves every checkpoint_steps steps, at the end, and when asked to stop.
      total_steps: where to end; need be no multiple of anything.
      checkpoint_steps: steps between checkpoints.
      summary_steps: steps between summaries, which are means over these steps; 0 for one at the
        end. The first summary holds pictures, and so do every PICTURES_EVERY-th after it and the
        last.
      batch_size: images a step, over all replicas, for the rate.
      learning_rate: step -> learning rate, for the summaries.
      writer: of the summaries; the chief's is the one that counts.
      description: of the progress bar, or of the lines of a log (`console.progress`).
      evaluate: called every eval_every_steps steps, but not at the end.
      eval_every_steps: steps between evaluations; 0 for none.
      trace: of some of the steps.

    Raises:
      Stopped: after one of STOP_SIGNALS on any worker, with the checkpoint written.
      NotFinite: the loss is NaN or infinite; nothing of it is saved.
      checkpoint.NotSaved: the file system refuses.
    """
    summary_steps = summary_steps or total_steps
    eval_every_steps = eval_every_steps or total_steps
    step = first_step = checkpointer.step
    means = _Means(metric_names)
    chunk = 1  # the first call compiles; then as many steps as SECONDS_BETWEEN_UPDATES take
    bar = progress(
        total=total_steps,
        initial=step,
        desc=description,
        unit="step",
        leave=True,
        disable=not workers.is_chief(strategy),
    )
    counted = _Counted(first_step, say=workers.is_chief(strategy))
    trace = trace or Trace("", total_steps, total_steps)
    with counted, bar, trace, _stop_requests() as requests:
        while step < total_steps:
            limits = (
                step + chunk,
                _next_multiple(step, summary_steps),
                _next_multiple(step, checkpoint_steps),
                _next_multiple(step, eval_every_steps),
                trace.next_boundary(step),
                total_steps,
            )
            count = min(limits) - step
            trace.at(step)
            began = time.monotonic()
            rows, views = run_steps(iterator, tf.constant(count))
            rows = rows.numpy()
            seconds, *asked = workers.mean_over_workers(
                strategy, [time.monotonic() - began, *(n in requests for n in STOP_SIGNALS)]
            )
            stop = next((n for n, share in zip(STOP_SIGNALS, asked, strict=True) if share), None)
            losses = rows[:, metric_names.index("total_loss")]
            if bad := np.flatnonzero(~np.isfinite(losses)).tolist():
                last = step + bad[0]
                raise NotFinite(
                    f"the loss is {losses[bad[0]]} in step {last + 1} at learning rate "
                    f"{float(learning_rate(last)):.4g}; the last good checkpoint is "
                    f"{checkpointer.latest or 'none'}: lower --learning_rate or raise "
                    "--warmup_epochs"
                )
            means.add(rows[:, : -len(COUNTS)])
            counted.add(rows[:, -len(COUNTS) :])
            images_per_second = None
            if step > first_step:  # the first call also compiled
                chunk = max(1, int(SECONDS_BETWEEN_UPDATES * count / max(seconds, 1e-3)))
                images_per_second = batch_size * count / max(seconds, 1e-3)
            step += count
            bar.set_postfix_str(_postfix(means, images_per_second), refresh=False)
            bar.update(count)
            if step % summary_steps == 0 or step == total_steps:
                with writer.as_default(step=step):
                    for name, value in (means.pop() | counted.pop()).items():
                        tf.summary.scalar(f"train/{name}", value)
                    tf.summary.scalar("learning_rate", learning_rate(step))
                    if step == total_steps or step // summary_steps % PICTURES_EVERY == 1:
                        tf.summary.image("image", views, max_outputs=NUM_SUMMARY_IMAGES)
            # Before the checkpoint: a run that is killed in between evaluates this step again.
            if evaluate and step % eval_every_steps == 0 and step < total_steps:
                evaluate()
            if step % checkpoint_steps == 0 or step == total_steps or stop:
                checkpointer.save()
                writer.flush()
            if stop and step < total_steps:
                raise Stopped(
                    stop,
                    f"{signal.Signals(stop).name}: stopped at step {step} of {total_steps}, saved "
                    f"as {checkpointer.latest}; the same command goes on from there",
                )


class Trace:
    """A trace of the steps from first to last for TensorBoard's profiler."""

    def __init__(self, directory: str, first: int, last: int, *, writes: bool = True):
        """The trace goes to directory/plugins/profile.

        Of several workers the chief alone writes. The others must have one all the same, or they
        would not take as many steps a call.
        """
        self._directory, self._first, self._last = directory, first, last
        self._writes, self._running = writes, False

    def next_boundary(self, step: int) -> float:
        """The next step after this one at which the trace begins or ends."""
        return min((at for at in (self._first, self._last) if at > step), default=float("inf"))

    def at(self, step: int):
        """Begins or ends the trace, where it is time."""
        wanted = self._writes and self._first <= step < self._last
        if wanted and not self._running:
            tf.profiler.experimental.start(self._directory)
            self._running = True
        elif self._running and not wanted:
            self._stop()

    def _stop(self):
        tf.profiler.experimental.stop()
        self._running = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._running:
            self._stop()


class _Means:
    """Means of the metrics over the steps since the last pop.

    Added up step by step in float64, so that they do not depend on how many steps a call took.
    """

    def __init__(self, names: Sequence[str]):
        self.names = names
        self._begin()

    def _begin(self):
        self.sums, self.count = np.zeros(len(self.names)), 0

    def add(self, rows: np.ndarray):
        """Takes in (steps, metrics)."""
        for row in rows:
            self.sums = self.sums + row
            self.count += 1

    def means(self) -> dict[str, float]:
        return dict(zip(self.names, (self.sums / self.count).tolist(), strict=True))

    def pop(self) -> dict[str, float]:
        means = self.means()
        self._begin()
        return means


class _Counted:
    """Counts the examples of COUNTS, and says at the end how many there were, if any."""

    def __init__(self, first_step: int, *, say: bool):
        self.first_step, self.say, self.num_steps = first_step, say, 0
        self.totals, self.popped = np.zeros(len(COUNTS), int), np.zeros(len(COUNTS), int)

    def add(self, counts: np.ndarray):
        """Takes in the counts of each step, (steps, len(COUNTS))."""
        self.num_steps += len(counts)
        self.totals = self.totals + np.rint(counts.sum(axis=0)).astype(int)

    def pop(self) -> dict[str, int]:
        """How many there were since the last pop; of unlabelled ones only where there are any."""
        since, self.popped = self.totals - self.popped, self.totals
        kept = zip(COUNTS, since.tolist(), self.totals.tolist(), strict=True)
        return {name: n for name, n, total in kept if total or name == "skipped_examples"}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        steps = {"first": self.first_step, "last": self.first_step + self.num_steps}
        for total, text in zip(self.totals, COUNTS.values(), strict=True):
            if total and self.say:
                print(f"{total} {text.format(**steps)}", file=sys.stderr)


def _postfix(means: _Means, images_per_second: float | None) -> str:
    now = means.means()
    # total_loss also holds the supervised head's, which only watches the pretraining.
    loss = now.get("contrast_loss", now["total_loss"])
    parts = [f"loss {loss:.3f}"]
    if images_per_second is not None:
        parts.insert(0, f"{images_per_second:.0f} images/s")
    for name in ("contrast_acc", "supervised_acc"):
        if name in now:
            parts.append(f"{name} {now[name]:.3f}")
    return ", ".join(parts)


def _next_multiple(step: int, of: int) -> int:
    return (step // of + 1) * of


@contextlib.contextmanager
def _stop_requests():
    """Collects STOP_SIGNALS in a list; the second Ctrl-C interrupts at once."""
    requests = []

    def note(number, frame):
        if requests and number == signal.SIGINT:
            raise KeyboardInterrupt
        requests.append(number)

    previous = {}
    try:
        for number in STOP_SIGNALS:
            previous[number] = signal.signal(number, note)
    except ValueError:
        pass  # not the main thread, as in a notebook's worker: the default handlers stay
    try:
        yield requests
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
