"""Measures time and memory of NT-Xent and its gradient, for n images with hiddens of width d.

The baseline is the official code's loss: a dense matrix of logits, n x n, for each of the four
pairs of views, concatenated to n x 2n, and TensorFlow's gradient of it.
"""

import argparse
import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from benchmarks import memory_use, report, timing
from benchmarks.report import Report, measured
from tf_simclr.config.sections import Loss
from tf_simclr.losses.nt_xent import automatic_block_rows, nt_xent_stacked

NOTES = """\
- time: milliseconds of the loss and its gradient with respect to the hiddens.
- memory: peak of the resident set while they are computed, minus its size before; each in a new
  process.
- ours: blocks with the number of rows in the setting; n rows are the whole matrix."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this subcommand."""
    parser.add_argument(
        "--batch",
        type=report.list_of(report.positive),
        default=[512, 2048, 8192],
        help="images, n, separated by commas (default: 512,2048,8192)",
    )
    parser.add_argument(
        "--alone",
        type=report.list_of(report.positive),
        default=[],
        help="further numbers of images, too many for the baseline: only our loss's memory",
    )
    parser.add_argument(
        "--dim",
        type=report.positive,
        default=128,
        help="width of a hidden, d (default: %(default)s)",
    )
    parser.add_argument(
        "--loss_block_rows",
        type=int,
        default=0,
        help="rows of a block; 0 for the automatic choice (default: %(default)s)",
    )
    report.add_arguments(parser, repetitions=7)


def run(args: argparse.Namespace) -> None:
    """Measures what the command line asks for and prints the table."""
    out = Report("loss", repetitions=args.repetitions, json_path=args.json)
    for n in args.batch:
        rows = args.loss_block_rows or automatic_block_rows(n)
        setting = f"n = {n}, d = {args.dim}, {rows} rows"
        calls = [make(name, n, args.dim, rows) for name in ("ours", "official")]
        for ours, theirs in zip(calls[0](), calls[1](), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
        times = timing.medians(calls, repetitions=args.repetitions)
        out.add(measured("loss and gradient", setting, "ms", times))
        peaks = [memory_use.peak(make, name, n, args.dim, rows) for name in ("ours", "official")]
        out.add(measured("loss and gradient: memory", setting, "MB", peaks))
    for n in args.alone:
        rows = args.loss_block_rows or automatic_block_rows(n)
        setting = f"n = {n}, d = {args.dim}, {rows} rows"
        peak = memory_use.peak(make, "ours", n, args.dim, rows, calls=1)
        out.add(measured("loss and gradient: memory", setting, "MB", [peak]))
    out.finish(NOTES)


def make(name: str, n: int, d: int, block_rows: int) -> Callable[[], list[np.ndarray]]:
    """Returns a function that computes loss and gradient of hiddens (2n, d).

    Args:
      name: "ours" or "official".
      n: number of images.
      d: width of a hidden.
      block_rows: rows of a block of our loss.
    """
    losses: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
        "ours": functools.partial(_ours, block_rows=block_rows),
        "official": official_loss,
    }
    loss = losses[name]
    hidden = tf.random.stateless_normal((2 * n, d), seed=[1, 2])

    @tf.function
    def call():
        with tf.GradientTape() as tape:
            tape.watch(hidden)
            value = loss(hidden)
        return value, tape.gradient(value, hidden)

    return lambda: [result.numpy() for result in call()]


def _ours(hidden, *, block_rows: int):
    return nt_xent_stacked(hidden, temperature=Loss.temperature, block_rows=block_rows)[
        "contrast_loss"
    ]


def official_loss(hidden: tf.Tensor, *, temperature: float = Loss.temperature) -> tf.Tensor:
    """Computes the official code's loss on one replica: hidden (2n, d) -> ()."""
    a, b = tf.split(tf.math.l2_normalize(hidden, -1), 2)
    n = a.shape[0]
    labels, masks = tf.one_hot(tf.range(n), 2 * n), tf.one_hot(tf.range(n), n)
    logits_aa = tf.matmul(a, a, transpose_b=True) / temperature - masks * 1e9
    logits_bb = tf.matmul(b, b, transpose_b=True) / temperature - masks * 1e9
    logits_ab = tf.matmul(a, b, transpose_b=True) / temperature
    logits_ba = tf.matmul(b, a, transpose_b=True) / temperature
    loss_a = tf.nn.softmax_cross_entropy_with_logits(labels, tf.concat([logits_ab, logits_aa], 1))
    loss_b = tf.nn.softmax_cross_entropy_with_logits(labels, tf.concat([logits_ba, logits_bb], 1))
    return tf.reduce_mean(loss_a + loss_b)
