"""Records in history.json on what a run trains, and how it ends. Only the chief writes."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tf_simclr.checkpoints import history
from tf_simclr.devices import strategies
from tf_simclr.errors import one_line
from tf_simclr.report.content import Images
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


def record_finish(state: RunState, results: Mapping[str, Any]) -> None:
    """Records the end of a run, which may be before its last step (--stop_after).

    Args:
      state: the run.
      results: what the run prints; only the numbers are kept.
    """
    if state.is_chief:
        history.end(state.model_dir, _reason(state), step=state.step, results=results)


def _reason(state: RunState) -> str:
    return history.FINISHED if state.step >= state.plan.total_steps else history.STOPPED_EARLY


def write_report(state: RunState, images: Images, notes: Sequence[str]) -> dict[str, str]:
    """Writes report.html of a run that has just finished. A failure is reported, not raised.

    Args:
      state: the run; this worker is the chief.
      images: what its encoder has learned.
      notes: what the report leaves out, and why.

    Returns:
      {"report": path}, or {} after a failure.
    """
    from tf_simclr.report import run_report  # importing matplotlib takes a second
    from tf_simclr.report.run_files import run_folder

    path = os.path.join(state.model_dir, run_report.NAME)
    try:
        # This process still has the lock, as if the run went on.
        run = dataclasses.replace(run_folder.read(state.model_dir), state=_reason(state))
        run_report.write(path, run_report.make([run], images=images, notes=notes))
    except Exception as error:  # drawing can raise any exception, and the run has finished
        state.say(f"{run_report.NAME} is not written: {one_line(error)}")
        return {}
    return {"report": path}
