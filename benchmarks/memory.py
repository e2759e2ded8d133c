"""Training steps of ResNet-18 on 32 pixels: peak memory and time, micro-batches beside none.

The baseline is the plain step of a batch that fits; ours is a batch many times as large in
micro-batches of the baseline's size. Memory is that of a new process each, model and optimizer
included; for the times both take turns in one process.
"""

import argparse
import functools
from collections.abc import Callable

from benchmarks import local, memory_use, report, step, timing
from benchmarks.report import Report, measured
from tf_simclr.config import Config

NOTES = """\
- memory: the peak of the process's resident set above what it had before the model was made.
- time: of a step, for each image of its batch.
- The batch lies in memory; the input pipeline is part of neither."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this subcommand."""
    parser.add_argument(
        "--batch", type=report.positive, default=4096, help="images, ours (default: %(default)s)"
    )
    parser.add_argument(
        "--microbatch_size",
        type=report.positive,
        default=256,
        help="images of a micro-batch and of the baseline (default: %(default)s)",
    )
    parser.add_argument(
        "--width_multiplier", type=float, default=0.25, help="of the network (default: %(default)s)"
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
    build_step = functools.cache(lambda: step.ours(Config().replace(**settings)))

    def call() -> None:
        build_step()()

    return call


def _ms_per_image(sides: list[dict], repetitions: int) -> list[float]:
    """Milliseconds of a step for each image of its batch; as many images on either side."""
    batches = [side["train_batch_size"] for side in sides]

    def of_as_many(settings: dict):
        call, count = _make(settings), max(batches) // settings["train_batch_size"]
        return lambda: [call() for _ in range(count)]

    times = timing.medians([of_as_many(side) for side in sides], repetitions=repetitions)
    return [ms / max(batches) for ms in times]
