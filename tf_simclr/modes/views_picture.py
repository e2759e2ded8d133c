"""Draws views.png, the images and views that a training run starts with."""

import os

from tf_simclr import files
from tf_simclr.data import errors
from tf_simclr.devices import strategies
from tf_simclr.errors import one_line
from tf_simclr.run_state import RunState


def draw(state: RunState) -> None:
    """Writes views.png on the chief: at the start of a new run, or if a resumed run lacks it.

    It uses no collective operation, because the other workers do not take part. A failure is
    reported and does not end the run.
    """
    if not state.is_chief:
        return
    from tf_simclr.report import views_sheet  # importing matplotlib takes a second

    path = os.path.join(state.model_dir, views_sheet.NAME)
    try:
        if state.step and files.is_file(path):
            return
        with errors.in_one_line():
            content = views_sheet.draw(
                state.config, state.source, on_cpu=strategies.on_cpu(state.strategy)
            )
        files.write_bytes(path, content)
    except Exception as error:  # Matplotlib and decoders can raise any exception
        state.say(f"{views_sheet.NAME} is not drawn: {one_line(error)}")
