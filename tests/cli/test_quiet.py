"""Which lines are filtered out of stderr, in processes that write what TensorFlow writes."""

import os
import pty
import signal
import subprocess
import sys

CHATTER = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795717057.689908    6130 port.cc:153] oneDNN custom operations are on.",
    "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow with",
    "I0000 00:00:1795717735.101641    2153 device_compiler.h:186] Compiled cluster using XLA!  T",
)
KEPT = (
    "W0000 00:00:1795717057.689908    6130 gpu_device.cc:2342] Cannot dlopen some GPU libraries.",
    "E0000 00:00:1795717605.068759   28224 cuda_platform.cc:52] failed call to cuInit",
    "F0000 00:00:1795717605.068759   28224 cpu_feature_guard.cc:36] The TensorFlow library was",
    "pretrain: step 1 of 6, loss 2.299",
    "I0000 can also begin one of our own lines",
)
PROGRAM = """
import os, signal, sys
from tf_simclr.cli import quiet
lines = sys.argv[3:]
with quiet.without_chatter(on_terminal=sys.argv[1] == "terminal"):
    for line in lines:
        os.write(2, (line + "\\n").encode())
    if sys.argv[2] == "abort":
        os.abort()
    print("the last line", file=sys.stderr)
    sys.exit("after " + str(sys.stderr.isatty()))
"""


def run(root, *arguments, stderr=subprocess.PIPE, **environment):
    return subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM, *arguments, *CHATTER, *KEPT],
        cwd=root,
        stderr=stderr,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root)} | environment,
    )


def test_a_log_has_everything_but_chatter(repo_root):
    done = run(repo_root, "log", "exit")
    assert done.stderr.splitlines() == [*KEPT, "the last line", "after False"]
    assert done.returncode == 1


def test_the_last_words_of_a_process_that_aborts_come_through(repo_root):
    done = run(repo_root, "log", "abort")
    assert done.stderr.splitlines() == list(KEPT)
    assert done.returncode == -signal.SIGABRT


def test_log_level_0_filters_nothing(repo_root):
    done = run(repo_root, "log", "exit", TF_CPP_MIN_LOG_LEVEL="0")
    assert done.stderr.splitlines()[:-2] == [*CHATTER, *KEPT]


def test_a_terminal_stays_a_terminal_except_during_the_import(repo_root):
    for which, lines in (("log", [*CHATTER, *KEPT]), ("terminal", list(KEPT))):
        main, terminal = pty.openpty()
        run(repo_root, which, "exit", stderr=terminal)
        os.close(terminal)
        output = b""
        while b"after" not in output:
            output += os.read(main, 4096)
        os.close(main)
        *shown, last, after = output.decode().splitlines()
        assert shown == lines and last == "the last line"
        assert after == ("after True" if which == "log" else "after False")
