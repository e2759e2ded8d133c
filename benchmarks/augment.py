"""Measures augmentation on the device: flip and color distortion of a batch of views.

The baseline is the official code's scheme: one image at a time, one random op at a time, in a map
that uses all cores.
"""

import argparse
import functools
from collections.abc import Callable

import tensorflow as tf

from benchmarks import report, timing
from benchmarks.report import Report, measured
from tf_simclr.data.augment import distortion, on_device

STRENGTH, IMPL = 1.0, "simclrv2"
NOTES = """\
- time: milliseconds per batch of views, uint8 to float32, without crops and blur. A timed call
  processes --batches batches and includes the start of the baseline's pipeline.
- ours: batched ops, compiled by XLA, as with --augment_on=device.
- This machine's CPU runs both."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this subcommand."""
    parser.add_argument(
        "--image_size",
        type=report.list_of(report.positive),
        default=[32, 224],
        help="sides of a view in pixels, separated by commas (default: 32,224)",
    )
    parser.add_argument(
        "--batch", type=report.positive, default=64, help="views per batch (default: %(default)s)"
    )
    parser.add_argument(
        "--batches",
        type=report.positive,
        default=50,
        help="batches per call (default: %(default)s)",
    )
    report.add_arguments(parser, repetitions=7)


def run(args: argparse.Namespace) -> None:
    """Measures what the command line asks for and prints the table."""
    out = Report("augment", repetitions=args.repetitions, json_path=args.json)
    for size in args.image_size:
        shape = (args.batch, size, size, 3)
        views = tf.cast(
            tf.random.stateless_uniform(shape, [1, 2], maxval=256, dtype=tf.int32), tf.uint8
        )
        sides = [_ours(views), _official(views)]
        calls = [functools.partial(_batches, side, args.batches) for side in sides]
        times = timing.medians(calls, repetitions=args.repetitions)
        setting = f"{size} pixels, {args.batch} views"
        batch_times = [time / args.batches for time in times]
        out.add(measured("flip and colors", setting, "ms", batch_times))
    out.finish(NOTES)


def _batches(make_next: Callable, count: int):
    """Takes `count` batches from a new iterator, because an old one would work ahead meanwhile."""
    following = make_next()
    for _ in range(count):
        views = following()
    return views.numpy()


def _ours(views):
    n = views.shape[0]
    number = tf.Variable(0)

    @tf.function(jit_compile=True, autograph=False)
    def distort(views, seed):
        flip_seed, color_seed = tf.unstack(
            tf.random.experimental.stateless_split(seed, 2, alg="philox")
        )
        flips = on_device.random_flips(n, flip_seed)
        flipped = on_device.flip(on_device.to_float(views), flips)
        return on_device.color_distortion(flipped, color_seed, strength=STRENGTH, impl=IMPL)

    def call():
        number.assign_add(1)
        return distort(views, tf.stack([number, 7]))

    return lambda: call


def _official(views):
    def distort(index, view):
        seeds = tf.random.experimental.stateless_split([tf.cast(index, tf.int32), 7], 2)
        view = tf.image.stateless_random_flip_left_right(on_device.to_float(view), seeds[0])
        return distortion.color_distortion(view, seeds[1], strength=STRENGTH, impl=IMPL)

    dataset = tf.data.Dataset.from_tensor_slices(views).repeat().enumerate()
    dataset = dataset.map(
        tf.autograph.experimental.do_not_convert(distort), num_parallel_calls=tf.data.AUTOTUNE
    )
    dataset = dataset.batch(views.shape[0])

    def make_next():
        iterator = iter(dataset)
        return lambda: next(iterator)

    return make_next
