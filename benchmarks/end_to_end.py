"""Times the whole command: from `python run.py` to the export and the end of the process.

Without --vs it times only this code. With --vs DIR the baseline is the run.py of another checkout:
of the official code (its folder tf2), or of this project. With --vs lightly it is lightly's SimCLR
in PyTorch, in a virtual environment that this benchmark makes. The sides take turns, and each run
is a process of its own with a new folder.
"""

import argparse
import functools
import sys
import tempfile
from pathlib import Path

import tensorflow_datasets as tfds

from benchmarks import lightly_env, moments, programs, report, timing
from benchmarks.programs import Network, Side
from benchmarks.report import Report, Row, measured_runs

NOTES = """\
- Medians of {runs} runs, in parentheses the smallest and the largest. Ratio: ours divided by the
  baseline, in parentheses of the single pairs. The files of a side are cached after its first run.
- import: until the program's modules are loaded. build: until the function that trains is first
  called. trace: Python's part of that call. first step: the rest of it, which compiles.
- steady step: the median over all windows of {window} steps but the first; after each call the
  device has finished. {first}
- all but steps: the whole command without the steps after the first one.
- Both sides take {steps} steps, and write a checkpoint every {window} steps and an export."""
_COMPUTED = (
    "The official code's first call takes {window} steps: its first step is\n"
    "  computed, as that call without its tracing and without {more} steady steps."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this subcommand."""
    parser.add_argument(
        "--vs",
        metavar="DIR|lightly",
        type=programs.parse_baseline,
        help="the baseline: a checkout of the official code (its folder tf2), another checkout of "
        "this project, or lightly",
    )
    parser.add_argument(
        "--network",
        choices=tuple(programs.NETWORKS),
        default="resnet18",
        help="ResNet-18, CIFAR-10, batch 128; or ResNet-50, ImageNet at 224 pixels, batch 16 "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        type=report.list_of(_precision),
        default=[programs.FLOAT32],
        help="our precisions, separated by commas. The official code computes in float32, lightly "
        "in the same precision as we do (default: float32)",
    )
    parser.add_argument(
        "--steps",
        type=report.at_least(2),
        default=40,
        help="training steps (default: %(default)s)",
    )
    parser.add_argument(
        "--checkpoint_steps",
        type=report.positive,
        default=10,
        help="steps between checkpoints and summaries; divides --steps (default: %(default)s)",
    )
    parser.add_argument("--data_dir", type=_folder, help="TFDS folder (default: TFDS's own)")
    parser.add_argument("--dataset", help="another data set than the network's, prepared by TFDS")
    parser.add_argument("--batch", type=report.positive, help="images per step")
    parser.add_argument(
        "--width_multiplier", type=float, default=1.0, help="network width, not of lightly"
    )
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="interpreter for the other checkout; the official code needs TensorFlow 2.15 "
        "(default: this one)",
    )
    parser.add_argument(
        "--venv",
        type=Path,
        default=lightly_env.default_folder(),
        help="folder of lightly's virtual environment (default: %(default)s)",
    )
    report.add_arguments(parser, repetitions=5, flag="--pairs")


def run(args: argparse.Namespace) -> None:
    """Measures what the command line asks for and prints the table."""
    if args.steps % args.checkpoint_steps or args.steps == args.checkpoint_steps:
        raise SystemExit(
            f"--steps must be a multiple of --checkpoint_steps={args.checkpoint_steps}, and at "
            f"least twice as many, got {args.steps}"
        )
    if args.vs == programs.LIGHTLY and args.width_multiplier != 1:
        raise SystemExit(
            "--width_multiplier must be 1 with --vs=lightly: its ResNets have no other"
        )
    network = programs.network_of(args)
    try:
        builder = tfds.builder(network.dataset, data_dir=args.data_dir)
        splits = builder.info.splits.keys()
    except Exception as error:  # TFDS raises exceptions of many types
        raise SystemExit(f"--dataset: {error}") from error
    if "train" not in splits:
        raise SystemExit(
            f"--data_dir: the data set {network.dataset} is not prepared in {builder.data_path}"
        )
    with tempfile.TemporaryDirectory() as folder:
        try:
            pairs = programs.make_pairs(args, network, builder, Path(folder))
            _measure(args, network, pairs)
        except RuntimeError as error:
            raise SystemExit(f"end_to_end: {error}") from error


def _measure(
    args: argparse.Namespace, network: Network, pairs: list[tuple[Side, Side | None]]
) -> None:
    """Runs all sides in turns and prints the table."""
    sides = list(dict.fromkeys(side for pair in pairs for side in pair if side is not None))
    out = Report("end_to_end", repetitions=args.repetitions, json_path=args.json)
    calls = [functools.partial(programs.timed_run, side, args.checkpoint_steps) for side in sides]
    results = dict(zip(sides, timing.in_turns(calls, repetitions=args.repetitions), strict=True))
    for ours, other in pairs:
        setting = f"ResNet-{network.resnet_depth}, batch {network.batch}, {ours.precision}"
        if args.width_multiplier != 1:
            setting += f", width {args.width_multiplier:g}"
        if other and other.precision != ours.precision:
            setting += f" beside {other.precision}"
        runs = [results[side] for side in (ours, other) if side]
        for row in _rows(setting, runs):
            out.add(row)
    first = ""
    if args.vs and args.vs[0] == programs.OFFICIAL:
        first = _COMPUTED.format(window=args.checkpoint_steps, more=args.checkpoint_steps - 1)
    notes = NOTES.format(
        runs=args.repetitions, steps=args.steps, window=args.checkpoint_steps, first=first
    )
    out.finish("\n".join(line.rstrip() for line in notes.splitlines()))


def _rows(setting: str, runs: list[list[dict[str, float]]]) -> list[Row]:
    rows = []
    for part in (*moments.PARTS, moments.STEADY, moments.OVERHEAD, moments.WHOLE):
        unit, scale = ("ms", 1e3) if part == moments.STEADY else ("s", 1.0)
        values = [[scale * run[part] for run in side] for side in runs]
        if any(any(side) for side in values):  # lightly neither traces nor evaluates
            rows.append(measured_runs(part, setting, unit, values))
    return rows


def _precision(text: str) -> str:
    if text not in (programs.FLOAT32, programs.BFLOAT16):
        raise argparse.ArgumentTypeError(
            f"needs {programs.FLOAT32} or {programs.BFLOAT16}, got {text!r}"
        )
    return text


def _folder(text: str) -> str:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"needs a folder, got {text!r}")
    return str(Path(text).resolve())
