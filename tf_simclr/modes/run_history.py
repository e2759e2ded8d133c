"""Records in history.json on what a run trains, and how it ends. Only the chief writes."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from tf_simclr.checkpoints import history
from tf_simclr.devices import strategies
from tf_simclr.run_state import RunState
from tf_simclr.training import hooks


def record_start(state: RunState) -> None:
    """Records in history.json on which devices and with which versions the run trains."""
    if state.is_chief:
        history.add_start(
            state.model_dir,
            step=state.step,
            total_steps=state.plan.total_steps,
            num_train=state.plan.num_train,
            device=strategies.describe_models(state.strategy),
        )


@contextlib.contextmanager
def end_recorded(state: RunState) -> Iterator[None]:
    """Records in history.json that a run diverged or was stopped."""
    try:
        yield
    except (hooks.NotFinite, hooks.Stopped) as error:
        reason = history.DIVERGED if isinstance(error, hooks.NotFinite) else history.STOPPED
        if state.is_chief:
            with contextlib.suppress(OSError, tf.errors.OpError):  # the error says more
                history.end(state.model_dir, reason, step=state.step, message=error)
        raise


def record_finish(
    state: RunState, results: Mapping[str, Any], *, reason: str = history.FINISHED
) -> None:
    """Records the end of a run.

    Args:
      state: the run.
      results: what the run prints; only the numbers are kept.
      reason: FINISHED, or STOPPED_EARLY.
    """
    if state.is_chief:
        history.end(state.model_dir, reason, step=state.step, results=results)
