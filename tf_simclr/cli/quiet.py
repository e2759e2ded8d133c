"""Filters TensorFlow's informational lines out of a run's log. The filter keeps everything else.

cli/main.py sets TF_CPP_MIN_LOG_LEVEL to 3, which hides most of TensorFlow's lines, warnings and
non-fatal errors among them. Some informational lines ignore that level: parts of TensorFlow log
with Abseil, which writes to stderr until the program initializes it. Python programs cannot do
that, and some lines appear while the libraries are loaded. Only a filter on stderr helps. It is a
separate process (this file, run as a program), because it must still pass on the message when
TensorFlow aborts the process.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

# Abseil's lines begin with the level: I for information; W, E and F for warnings and errors.
_CHATTER = re.compile(
    rb"I\d{4} \d\d:\d\d:[\d.]+ +\d+ [^ :]+:\d+\] "
    rb"|WARNING: All log messages before absl::InitializeLog\(\) is called"
    rb"|INFO: Created TensorFlow Lite"
    # What the converter to TFLite says about operations that need no conversion.
    rb"|Summary on the non-converted ops:|-{33}$|- \w+\.\w+: +\d+ occurrences|  \(\w+: \d+\)"
    rb"| \* (Accepted dialects|Non-Converted Ops|\d+ \w+ ops)"
    rb"|To enable the following instructions: .* rebuild TensorFlow"  # a second line of information
)
_SECONDS_TO_END = 5  # time limit for the filter to end, after the last line


@contextlib.contextmanager
def without_chatter(*, on_terminal: bool = False) -> Iterator[None]:
    """Filters the stderr of this process and its libraries.

    If the environment sets TF_CPP_MIN_LOG_LEVEL to 0, nothing is filtered.

    Args:
      on_terminal: False filters only if stderr is a log. True filters only if it is a terminal:
        stderr then is no longer a terminal for this process, so progress bars do not work. Use
        True only for imports.
    """
    unable = sys.stderr is None or not sys.executable
    wants_all = os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0"
    if unable or wants_all or sys.stderr.isatty() != on_terminal:
        yield
        return
    command = [sys.executable, "-I", "-S", os.path.abspath(__file__)]
    sys.stderr.flush()
    # Ctrl-C goes to all processes in the terminal's session, and must not stop the filter.
    log_filter = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    unfiltered = os.dup(2)
    assert log_filter.stdin is not None
    os.dup2(log_filter.stdin.fileno(), 2)
    log_filter.stdin.close()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(unfiltered, 2)
        os.close(unfiltered)
        with contextlib.suppress(subprocess.TimeoutExpired):  # a child process may hold stderr
            log_filter.wait(_SECONDS_TO_END)


def _filter_lines() -> None:
    """Copies lines from stdin to stderr, without chatter."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):  # Slurm signals every process of a job
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    for line in sys.stdin.buffer:
        if not _CHATTER.match(line):
            with contextlib.suppress(OSError):  # a full disk must not end the run
                sys.stderr.buffer.write(line)
                sys.stderr.buffer.flush()


if __name__ == "__main__":
    _filter_lines()
