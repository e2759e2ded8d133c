"""The host's training loop: it lets the device run, and calls the hooks in between.

With several workers each of them runs this loop. The number of steps in a call depends on a clock,
and a signal may reach only one worker, so the workers agree on both after each call. (TensorFlow's
PreemptionCheckpointHandler is no help: it counts calls, which would have to be the same on all
workers anyway, lets all of them write, and ends the process itself.)
"""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from tf_simclr.devices import workers
from tf_simclr.training.device_loop import COUNTS
from tf_simclr.training.hooks import Chunk, Hook

SECONDS_BETWEEN_UPDATES = 2.0  # roughly how long the device runs without the host
# Slurm sends SIGUSR1 some time before it ends a job (sbatch --signal). Windows has no such signal.
STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
)


def train(
    run_steps: Callable,
    iterator: Iterator,
    hooks: Sequence[Hook],
    *,
    strategy: tf.distribute.Strategy,
    first_step: int,
    total_steps: int,
) -> None:
    """Trains from first_step to total_steps, exactly.

    Args:
      run_steps: of `device_loop.make_run_steps`.
      iterator: over distributed batches, at the position of first_step.
      hooks: called in this order after each call of run_steps.
      strategy: that of run_steps.
      first_step: steps taken so far.
      total_steps: where to end.

    Raises:
      What a hook raises: hooks.NotFinite, hooks.Stopped, run_checkpoints.NotSaved, ...
    """
    step, num_steps = first_step, 1  # the first call compiles, and shows nothing of the speed
    with contextlib.ExitStack() as stack:
        for hook in hooks:
            stack.enter_context(hook)
        received = stack.enter_context(_stop_requests())
        while step < total_steps:
            boundaries = (hook.next_boundary(step) for hook in hooks)
            count = int(min(step + num_steps, total_steps, *boundaries)) - step
            for hook in hooks:
                hook.before(step)
            began = time.monotonic()
            rows, views = run_steps(iterator, tf.constant(count))
            rows = rows.numpy()  # waits for the device
            seconds, *shares = workers.mean_over_workers(
                strategy,
                [time.monotonic() - began, *(number in received for number in STOP_SIGNALS)],
            )
            stops = (n for n, share in zip(STOP_SIGNALS, shares, strict=True) if share)
            compiled = step == first_step
            chunk = Chunk(
                first_step=step,
                last_step=step + count,
                total_steps=total_steps,
                metrics=rows[:, : -len(COUNTS)],
                counts=rows[:, -len(COUNTS) :],
                views=views,
                seconds=None if compiled else max(float(seconds), 1e-3),
                stop_signal=next(stops, None),
            )
            step = chunk.last_step
            for hook in hooks:
                hook.after(chunk)
            if chunk.seconds:
                num_steps = max(1, int(SECONDS_BETWEEN_UPDATES * count / chunk.seconds))


@contextlib.contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """Collects STOP_SIGNALS in a list; a second Ctrl-C interrupts at once."""
    received: list[int] = []

    def note(number, frame):
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    previous = {}
    try:
        for number in STOP_SIGNALS:
            previous[number] = signal.signal(number, note)
    except ValueError:
        pass  # not the main thread, as in a notebook's worker: the default handlers stay
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
