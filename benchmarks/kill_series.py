"""Kills a run many times, restarts it each time, and compares its end with an undisturbed run.

    python -m benchmarks kills --kills=10 --work_dir=runs/kills --seed=0 \\
        -- --train_steps=300 --checkpoint_steps=10

The arguments after `--` go to run.py. The first run is undisturbed. The second is killed (kill -9)
`kills` times: at random moments of training, while it writes a checkpoint, and, the last time,
while it exports. The last checkpoints of both must hold equal weights and optimizer values. Prints
a Markdown table and exits with 1 if a value differs.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

ROOT = Path(__file__).resolve().parents[1]
_RUN = """
from tf_simclr import console
from tf_simclr.cli import main
console.SECONDS_BETWEEN_LINES = 0
main.main()
"""
MOMENTS = ("training", "training", "checkpoint")  # in turn; the last kill is in the export


def start(model_dir: Path, log: Path, arguments: list[str]) -> subprocess.Popen:
    """Starts run.py with its output in the file `log`, one line for each progress update."""
    program = [sys.executable, "-c", _RUN, *arguments, f"--model_dir={model_dir}"]
    with open(log, "w") as file:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.Popen(program, stdout=file, stderr=file, env=environment)


def await_true(condition: Callable[[], bool], process: subprocess.Popen) -> bool:
    """Waits until the condition holds; returns False if the process ends first."""
    while not condition():
        if process.poll() is not None:
            return False
        time.sleep(0.0005)
    return True


def progress(log: Path) -> tuple[int, int, int]:
    """Reads (first step, current step, last step) from a run's log; zeros before it trains."""
    text = log.read_text()
    if not (begun := re.search(r" images, steps (\d+) to (\d+) ", text)):
        return 0, 0, 0
    first, last = map(int, begun.groups())
    seen = re.findall(rf"step (\d+) of {last}\b", text)
    return first, int(seen[-1]) if seen else first, last


def wait_for_moment(
    moment: str, process: subprocess.Popen, model_dir: Path, log: Path, share: float
) -> bool:
    """Waits for the moment to kill the run; returns False if the process ends first.

    Args:
      moment: "training", "checkpoint" (while one is written) or "export".
      share: fraction of all steps to train before the kill; ignored for "export".
    """

    def far_enough() -> bool:
        first, now, last = progress(log)
        return last > 0 and now - first >= share * last

    if moment != "export" and not await_true(far_enough, process):
        return False
    if moment == "training":
        end = time.monotonic() + 0.1 * share  # not always just after an update
        return await_true(lambda: time.monotonic() > end, process)
    pattern = {"checkpoint": "ckpt-*_temp", "export": "saved_model/*.unfinished"}[moment]
    return await_true(lambda: any(model_dir.glob(pattern)), process)


def values(model_dir: Path) -> dict[str, np.ndarray]:
    """Reads the latest checkpoint: weights, optimizer and step.

    TensorFlow's save_counter is left out, because it counts the files of one process.
    """
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(model_dir)))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if not name.startswith(("_CHECKPOINTABLE", "save_counter"))
    }


def largest_difference(first: dict, second: dict) -> float:
    """Returns the largest absolute difference; infinity if a run lacks a variable."""
    if first.keys() != second.keys():
        return float("inf")
    return max(float(np.abs(first[name] - second[name]).max(initial=0)) for name in first)


def kill_series(
    work_dir: Path, arguments: list[str], *, moments: list[str], rng: random.Random
) -> tuple[list[tuple], float]:
    """Makes the undisturbed run and the killed run.

    Args:
      work_dir: new folder for both runs and their logs.
      arguments: flags of run.py.
      moments: when to kill; one for each kill.
      rng: chooses the random moments.

    Returns:
      Rows (number of the start, its steps, its end, latest checkpoint), and the largest difference
      between the last checkpoints.
    """
    undisturbed, killed = work_dir / "undisturbed", work_dir / "killed"
    work_dir.mkdir(parents=True)
    log = work_dir / "undisturbed.log"
    assert start(undisturbed, log, arguments).wait() == 0, log.read_text()
    # On average, a start advances by three quarters of an equal share, minus the steps that a kill
    # loses. The run therefore does not end before its last kill.
    longest = 1.5 / max(1, len(moments))
    rows: list[tuple] = []
    while True:
        number = len(rows) + 1
        log = work_dir / f"killed_{number}.log"
        process = start(killed, log, arguments)
        moment = moments[number - 1] if number <= len(moments) else None
        share = rng.uniform(0, longest)
        if moment and wait_for_moment(moment, process, killed, log, share):
            process.kill()
        code = process.wait()
        assert code in (0, -9), log.read_text()
        first, now, last = progress(log)
        steps = f"{first} to {now}" if last else "none left"
        what = f"killed in {moment}" if code else "ended"
        latest = tf.train.latest_checkpoint(str(killed))
        rows.append((number, steps, what, Path(latest or "none").name))
        if code == 0:
            return rows, largest_difference(values(undisturbed), values(killed))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this subcommand."""
    parser.add_argument(
        "--kills", type=int, default=10, help="how many times to kill (default: %(default)s)"
    )
    parser.add_argument("--work_dir", type=Path, required=True, help="a new directory")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments and of the run")
    parser.add_argument("arguments", nargs="*", help="flags of run.py, after --")


def run(args: argparse.Namespace) -> int:
    """Prints the table and returns the exit code: 1 if a value differs."""
    if args.work_dir.exists():
        raise SystemExit(f"--work_dir {args.work_dir} exists already: use a new one")
    moments = [MOMENTS[i % len(MOMENTS)] for i in range(args.kills - 1)] + ["export"]
    rows, difference = kill_series(
        args.work_dir,
        [*args.arguments, f"--seed={args.seed}"],
        moments=moments[: args.kills],
        rng=random.Random(args.seed),
    )
    print("| start | steps | end | latest checkpoint |\n|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print(f"\nLargest difference of any weight or optimizer value: {difference:g}")
    return int(difference > 0)
