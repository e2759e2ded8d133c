"""Measures the startup: from `python run.py` to the first step and to the end of a short run.

The baseline is the same command in another checkout, if --baseline names one.
"""

import argparse
import functools
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import report, timing
from benchmarks.report import Report, measured

STEPS = 5
SETTINGS = (
    "--dataset=shapes",
    "--resnet_depth=18",
    "--width_multiplier=0.25",
    "--train_batch_size=32",
    f"--train_steps={STEPS}",
    "--seed=1",
    "--mode=train",
)
_OURS = Path(__file__).resolve().parents[1]
_MOMENTS = {
    "until data, model and devices are ready": re.compile(rb"steps\s+0 to"),
    # Earlier checkouts also show a progress bar in a log.
    "until the first step is done": re.compile(rb"step 1 of %d\b| 1/%d \[" % (STEPS, STEPS)),
}
WHOLE = f"whole run: {STEPS} steps, checkpoint, SavedModel"
NOTES = """\
- Each run is a new process with a new model_dir. The data set was prepared before.
- Most of the time between the model and the first step is tracing."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this subcommand."""
    parser.add_argument(
        "--baseline",
        metavar="DIR",
        type=_checkout,
        help="another checkout, whose run.py takes turns with ours",
    )
    parser.add_argument(
        "--data_dir", help="TFDS folder; the data set shapes must be prepared in it"
    )
    report.add_arguments(parser, repetitions=3)


def run(args: argparse.Namespace) -> None:
    """Measures what the command line asks for and prints the table."""
    out = Report("startup", repetitions=args.repetitions, json_path=args.json)
    setting = "shapes, ResNet-18 of width 0.25, batch 32"
    sides = [_OURS] + ([args.baseline] if args.baseline else [])
    options = [f"--data_dir={args.data_dir}"] if args.data_dir else []
    calls = [functools.partial(_seconds, side, options) for side in sides]
    side_runs = timing.in_turns(calls, repetitions=args.repetitions, untimed=1)
    imports = [
        _seconds_of([sys.executable, "-c", "import tensorflow"])[WHOLE]
        for _ in range(args.repetitions)
    ]
    out.add(measured("import tensorflow", "", "ms", [1e3 * statistics.median(imports)]))
    for moment in (*_MOMENTS, WHOLE):
        times = [1e3 * statistics.median(run[moment] for run in runs) for runs in side_runs]
        out.add(measured(moment, setting, "ms", times))
    out.finish(NOTES)


def _seconds(checkout: Path, options: list[str]) -> dict[str, float]:
    """Returns the seconds that a run took until each moment."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            checkout / "run.py",
            *SETTINGS,
            *options,
            f"--model_dir={folder}/run",
        ]
        seconds = _seconds_of(command)
    if set(seconds) != {*_MOMENTS, WHOLE}:
        raise RuntimeError(f"{checkout}: run.py no longer prints the line of its first step")
    return seconds


def _seconds_of(command: list) -> dict[str, float]:
    """Runs a process; returns the seconds until its stderr shows each moment, and until its end.

    Raises:
      RuntimeError: the process fails.
    """
    began, printed, seconds = time.perf_counter(), b"", {}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr
    with process:
        while chunk := os.read(process.stderr.fileno(), 65536):
            printed += chunk
            for moment, pattern in _MOMENTS.items():
                if moment not in seconds and pattern.search(printed):
                    seconds[moment] = time.perf_counter() - began
    if process.returncode:
        raise RuntimeError(f"{command[1]} failed: {printed.decode(errors='replace')[-2000:]}")
    return seconds | {WHOLE: time.perf_counter() - began}


def _checkout(text: str) -> Path:
    if not (Path(text) / "run.py").is_file():
        raise argparse.ArgumentTypeError(f"needs a folder with a run.py, got {text!r}")
    return Path(text).resolve()
