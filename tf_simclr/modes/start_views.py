"""Writes views.png at the start of a run: training images and their views."""

import contextlib
import os
import threading
from collections.abc import Iterator

from tf_simclr import files
from tf_simclr.data import errors
from tf_simclr.devices import strategies
from tf_simclr.errors import one_line
from tf_simclr.run_state import RunState

NAME = "views.png"


@contextlib.contextmanager
def written_meanwhile(state: RunState) -> Iterator[None]:
    """Writes views.png in a thread while a block of code runs, and waits for it at the end.

    The device compiles the first step meanwhile, which keeps only one core of the host busy.

    Args:
      state: the run.
    """
    thread = threading.Thread(target=write, args=(state,), name=NAME)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def write(state: RunState) -> None:
    """Writes views.png to model_dir: for a new run, and for a resumed run that lacks it.

    Only the chief calls it, so it uses no collective operation. A failure is reported and does not
    end the run. It draws no random number that the run draws.

    Args:
      state: the run.
    """
    path = os.path.join(state.model_dir, NAME)
    try:
        if state.step and files.is_file(path):
            return
        from tf_simclr.report.views import views_sheet  # importing matplotlib takes a second

        with errors.in_one_line():
            content = views_sheet.draw(
                state.config, state.source, on_cpu=strategies.on_cpu(state.strategy)
            )
        files.write_bytes(path, content)
    except Exception as error:  # decoders and Matplotlib can raise any exception
        state.say(f"{NAME} is not drawn: {one_line(error)}")
