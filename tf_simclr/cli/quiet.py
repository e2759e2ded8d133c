"""Keeps TensorFlow's chatter out of a run's log; errors, warnings and unknown lines stay.

TF_CPP_MIN_LOG_LEVEL reaches only the older parts of TensorFlow. The newer ones log by Abseil, which
writes information to stderr too until the program has set it up, which Python programs cannot. Some
of its lines come while the libraries are loaded, before anything could be called. So a filter is
all that helps. It is a process of its own (this file, run as a program), so that what TensorFlow
says when it aborts still comes through.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

# Abseil's lines begin with the level: I for information, W, E and F for what may matter.
_CHATTER = re.compile(
    rb"I\d{4} \d\d:\d\d:[\d.]+ +\d+ [^ :]+:\d+\] "
    rb"|WARNING: All log messages before absl::InitializeLog\(\) is called"
    rb"|To enable the following instructions: .* rebuild TensorFlow"  # a second line of information
)
_SECONDS_TO_END = 5  # for the filter, after the last line


@contextlib.contextmanager
def without_chatter(*, on_terminal: bool = False) -> Iterator[None]:
    """Leaves chatter out of what this process writes to stderr, by any library.

    A TF_CPP_MIN_LOG_LEVEL of 0 in the environment leaves all of it in.

    Args:
      on_terminal: False filters a log only. True filters a terminal only, which looks like a log
        to the process meanwhile, so that progress bars are out of place: for the import.
    """
    unable = sys.stderr is None or not sys.executable
    wants_all = os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0"
    if unable or wants_all or sys.stderr.isatty() != on_terminal:
        yield
        return
    command = [sys.executable, "-I", "-S", os.path.abspath(__file__)]
    sys.stderr.flush()
    # In a session of its own, because Ctrl-C goes to all processes of the terminal's.
    filtering = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    unfiltered = os.dup(2)
    os.dup2(filtering.stdin.fileno(), 2)
    filtering.stdin.close()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(unfiltered, 2)
        os.close(unfiltered)
        with contextlib.suppress(subprocess.TimeoutExpired):  # a child of ours may hold stderr
            filtering.wait(_SECONDS_TO_END)


def _pass_on():
    """Copies stdin's lines to stderr, without chatter."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):  # Slurm signals every process of a job
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    for line in sys.stdin.buffer:
        if not _CHATTER.match(line):
            with contextlib.suppress(OSError):  # a full disk: the run itself is not to end of it
                sys.stderr.buffer.write(line)
                sys.stderr.buffer.flush()


if __name__ == "__main__":
    _pass_on()
