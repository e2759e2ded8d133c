"""Measures memory and time of ResNet-18's training step at 32 pixels, with micro-batches.

The baseline is a plain step of a small batch. Ours is a batch many times as large, in micro-batches
of the baseline's size. Memory is measured in a new process for each side, with model and optimizer.
For the times, both take turns in one process.
"""

import argparse
from collections.abc import Callable

from benchmarks import local, memory_use, report, step_sides, timing
from benchmarks.report import Report, measured
from tf_simclr.config import Config

NOTES = """\
- memory: peak of the process's resident set above its size before the model was built.
- time: time of a step divided by the images of its batch.
- The batch is in memory; the input pipeline is not measured."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this subcommand."""
    parser.add_argument(
        "--batch",
        type=report.positive,
        default=4096,
        help="our batch (default: %(default)s)",
    )
    parser.add_argument(
        "--microbatch_size",
        type=report.positive,
        default=256,
        help="images of a micro-batch, and of the baseline's batch (default: %(default)s)",
    )
    parser.add_argument(
        "--width_multiplier",
        type=float,
        default=0.25,
        help="network width (default: %(default)s)",
    )
    parser.add_argument("--image_size", type=report.positive, default=32, help=argparse.SUPPRESS)
    report.add_arguments(parser, repetitions=3)


def run(args: argparse.Namespace) -> None:
    """Measures what the command line asks for and prints the table."""
    out = Report("memory", repetitions=args.repetitions, json_path=args.json)
    setting = (
        f"ResNet-18 of width {args.width_multiplier}, batch {args.batch} in micro-batches "
        f"of {args.microbatch_size} beside batch {args.microbatch_size}"
    )
    common = dict(
        resnet_depth=18,
        image_size=args.image_size,
        width_multiplier=args.width_multiplier,
        use_blur=False,
        learning_rate=0.1,
        seed=1,
    )
    sides = [
        common | dict(train_batch_size=args.batch, microbatch_size=args.microbatch_size),
        common | dict(train_batch_size=args.microbatch_size),
    ]
    peaks = [memory_use.peak(_make, side, calls=2) for side in sides]
    out.add(measured("step: memory", setting, "MB", peaks))
    times = local.in_new_process(_ms_per_image, sides, args.repetitions)
    out.add(measured("step: time of an image", setting, "ms", times))
    out.finish(NOTES)


def _make(settings: dict) -> Callable[[], None]:
    """Returns a function that takes one step; its first call builds the model."""
    return step_sides.on_demand("float32", Config().replace(**settings))


def _ms_per_image(sides: list[dict], repetitions: int) -> list[float]:
    """Returns the milliseconds per image; both sides process the same number of images."""
    batches = [side["train_batch_size"] for side in sides]

    def all_images(settings: dict):
        call, count = _make(settings), max(batches) // settings["train_batch_size"]
        return lambda: [call() for _ in range(count)]

    times = timing.medians([all_images(side) for side in sides], repetitions=repetitions)
    return [ms / max(batches) for ms in times]
