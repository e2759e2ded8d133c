"""Runs steps on the device and calls the hooks in between.

A signal does not interrupt a step. The loop records it and passes it to the hooks after the steps
that the device is running; the hook Checkpoints then saves and raises hooks.Stopped.

Each worker runs this loop. The number of steps per call depends on a clock, and a signal may reach
only one worker, so the workers agree on both after each call. (TensorFlow's
PreemptionCheckpointHandler does not fit: it needs equal call counts, lets every worker write, and
ends the process itself.)
"""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from tf_simclr.devices import workers
from tf_simclr.training.device_loop import COUNTS
from tf_simclr.training.hooks import Chunk, Hook

SECONDS_BETWEEN_UPDATES = 2.0  # roughly how long the device runs before it returns to Python
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
    """Trains from first_step to exactly total_steps.

    Args:
      run_steps: the function from `device_loop.make_run_steps`.
      iterator: yields distributed batches, starting with the batch of step first_step.
      hooks: called in this order after each call of run_steps.
      strategy: the strategy of run_steps.
      first_step: number of steps taken so far.
      total_steps: number of steps at which training ends.

    Raises:
      NotFinite, Stopped, NotSaved or another exception of a hook.
    """
    # The first call takes one step: it also compiles, so its time does not measure the speed.
    step, max_steps = first_step, 1
    with contextlib.ExitStack() as stack:
        for hook in hooks:
            stack.enter_context(hook)
        received = stack.enter_context(_stop_requests())
        while step < total_steps:
            boundaries = (hook.next_boundary(step) for hook in hooks)
            num_steps = int(min(step + max_steps, total_steps, *boundaries)) - step
            for hook in hooks:
                hook.before(step)
            began = time.monotonic()
            rows, views, waits = run_steps(iterator, tf.constant(num_steps))
            rows = rows.numpy()  # waits for the device
            values = [time.monotonic() - began, *(n in received for n in STOP_SIGNALS)]
            seconds, *shares = workers.mean_over_workers(strategy, values)
            stops = (n for n, share in zip(STOP_SIGNALS, shares, strict=True) if share)
            compiled = step == first_step
            chunk = Chunk(
                first_step=step,
                last_step=step + num_steps,
                total_steps=total_steps,
                metrics=rows[:, : -len(COUNTS)],
                counts=rows[:, -len(COUNTS) :],
                views=views,
                waits=waits.numpy(),
                seconds=None if compiled else max(float(seconds), 1e-3),
                stop_signal=next(stops, None),
            )
            step = chunk.last_step
            for hook in hooks:
                hook.after(chunk)
            if chunk.seconds:
                max_steps = max(1, int(SECONDS_BETWEEN_UPDATES * num_steps / chunk.seconds))


@contextlib.contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """Collects STOP_SIGNALS in a list. A second signal that is Ctrl-C interrupts at once."""
    received: list[int] = []

    def record_signal(signal_number, frame):
        if received and signal_number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(signal_number)

    previous = {}
    try:
        for signal_number in STOP_SIGNALS:
            previous[signal_number] = signal.signal(signal_number, record_signal)
    except ValueError:
        pass  # not the main thread, as in some notebooks: the previous handlers stay
    try:
        yield received
    finally:
        for signal_number, handler in previous.items():
            signal.signal(signal_number, handler)
