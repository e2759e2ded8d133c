"""Measures a pretraining step in images per second, and the share of its convolutions.

The baseline is a plain version of the official code's step: float32, batch normalization as single
ops, the dense loss. All sides use our LARS. "naive" is the baseline with its encoder in Keras's
mixed bfloat16.
"""

import argparse
from collections.abc import Callable
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from benchmarks import matrix_ops, report, timing
from benchmarks.loss import official_loss
from benchmarks.report import Report, measured
from tf_simclr.config import Config
from tf_simclr.config.choices import PRECISIONS
from tf_simclr.data.batch import ViewBatch
from tf_simclr.models import from_config, layers
from tf_simclr.optim import policy
from tf_simclr.optim.loss_scale import LossScale
from tf_simclr.training.loss_terms import Targets, supervised_loss
from tf_simclr.training.tasks import Pretrain, make_task
from tf_simclr.training.train_step import train_step

NETWORKS = {"resnet18": (18, 32, 128), "resnet50": (50, 224, 16)}
FUSED = "+fused"
NOTES = """\
- step: loss, gradients, LARS and moving averages for a batch in memory, without blur.
- in convolutions and matmuls: their share of the time of all ops, from TensorFlow's profiler.
- FLOP/s: multiplications and additions of convolutions and matmuls per second of the step.
- matmul peak: FLOP/s of a product of two 2048 x 2048 matrices of that type in the same run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this subcommand."""
    parser.add_argument(
        "--network",
        choices=(*NETWORKS, "tiny"),
        default="resnet18",
        help="ResNet-18 at 32 pixels and batch 128, or ResNet-50 at 224 and batch "
        "16 (default: %(default)s)",
    )
    parser.add_argument("--batch", type=report.positive, help="images per batch")
    parser.add_argument(
        "--precision",
        type=report.list_of(str),
        default=["float32", "float32" + FUSED, "bfloat16"],
        help=f"our precisions, separated by commas; {FUSED}: with --fused_batch_norm "
        f"(default: float32,float32{FUSED},bfloat16)",
    )
    parser.add_argument("--jit_compile", action="store_true", help="compile our step with XLA")
    report.add_arguments(parser, repetitions=5)


def run(args: argparse.Namespace) -> None:
    """Measures what the command line asks for and prints the table."""
    for precision in args.precision:
        if precision.removesuffix(FUSED) not in PRECISIONS:
            raise SystemExit(f"--precision must be of {PRECISIONS}, got {precision!r}")
    out = Report("step", repetitions=args.repetitions, json_path=args.json)
    depth, image_size, default_batch = NETWORKS.get(args.network, (18, 16, 4))
    batch = args.batch or default_batch
    config = Config().replace(
        resnet_depth=depth,
        image_size=image_size,
        train_batch_size=batch,
        seed=1,
        use_blur=False,
        width_multiplier=0.125 if args.network == "tiny" else 1.0,
        learning_rate=0.1,
        jit_compile=args.jit_compile,
    )
    setting = f"ResNet-{depth}, {image_size} pixels, batch {batch}"
    setting += ", XLA" if args.jit_compile else ""
    sides = {"official": official(config), "naive bfloat16": official(config, naive=True)}
    for precision in args.precision:
        sides[precision] = ours(
            config.replace(
                precision=precision.removesuffix(FUSED), fused_batch_norm=precision.endswith(FUSED)
            )
        )
    times = timing.medians(list(sides.values()), repetitions=args.repetitions)
    medians = {name: ms / 1e3 for name, ms in zip(sides, times, strict=True)}
    rates = {name: batch / taken for name, taken in medians.items()}
    variants = list(sides)[1:]
    for name in variants:
        out.add(measured(f"step, {name}", setting, "images/s", (rates[name], rates["official"])))
    shares = {name: 100 * matrix_ops.matrix_share(step) for name, step in sides.items()}
    for name in variants:
        what = f"in convolutions and matmuls, {name}"
        out.add(measured(what, setting, "%", (shares[name], shares["official"])))
    work = matrix_ops.matrix_flops(sides["official"].graph())
    peaks: dict[str, float] = {}
    for name in sides:
        dtype = {"naive bfloat16": "bfloat16", "official": "float32"}.get(name, name)
        dtype = dtype.removesuffix(FUSED)
        peak = peaks.setdefault(dtype, matrix_ops.matmul_peak(dtype))
        what = f"GFLOP/s beside the {dtype} matmul peak, {name}"
        out.add(measured(what, setting, "count", (1e-9 * work / medians[name], 1e-9 * peak)))
    out.finish(NOTES)


class Step:
    """Runs a training step on a batch in memory; a call returns when the step is done."""

    def __init__(self, config: Config, step: Callable, *, jit_compile: bool = False) -> None:
        n, size = config.training.train_batch_size, config.data.image_size
        rng = np.random.default_rng(0)
        images = tf.constant(rng.uniform(size=(n, 2, size, size, 3)), tf.float32)
        labels = tf.one_hot(tf.range(n) % 10, 10)
        self._step = tf.function(step, autograph=False, jit_compile=jit_compile or None)
        self._batch = ViewBatch(images, labels, tf.zeros(n))

    def __call__(self):
        metrics = self._step(self._batch)
        return float(metrics["total_loss"])

    def graph(self) -> tf.Graph:
        """Returns the graph that a call executes if XLA does not compile it."""
        return self._step.get_concrete_function(self._batch).graph


def ours(config: Config) -> Step:
    """Makes the step of `run.py` with these settings."""
    model, optimizer = _make_parts(config)
    task = make_task(config, model)
    scale = LossScale() if config.training.precision == "float16" else None

    def step(batch: ViewBatch):
        return train_step(task, optimizer, batch, loss_scale=scale)

    return Step(config, step, jit_compile=config.training.jit_compile)


class OfficialPretrain(Pretrain):
    """Pretrains with the official code's loss."""

    def loss(self, outputs: dict[str, tf.Tensor], targets: Targets | None) -> dict[str, tf.Tensor]:
        """Computes only the total loss ()."""
        assert targets is not None
        value = official_loss(outputs["proj_head_output"], temperature=self.temperature)
        value += self.weight_decay.loss()
        both_views = targets.of_both_views()
        value += supervised_loss(outputs["logits_sup"], both_views)["supervised_loss"]
        return {"total_loss": value}


def official(config: Config, *, naive: bool = False) -> Step:
    """Makes the official code's step; with `naive`, its encoder computes in bfloat16."""

    def batch_norm(*, fused_in_float32, **settings):
        del fused_in_float32  # the official code has no such argument
        return keras.layers.BatchNormalization(**settings)

    with mock.patch.object(layers, "BatchNorm", batch_norm):
        model, optimizer = _make_parts(config.replace(precision="bfloat16" if naive else "float32"))
    ours = make_task(config, model)
    task = OfficialPretrain(
        ours.model, ours.device_views, ours.weight_decay, temperature=config.loss.temperature
    )
    return Step(config, lambda batch: train_step(task, optimizer, batch))


def _make_parts(config: Config):
    model = from_config.make_model(config, 10)
    optimizer = policy.make_optimizer(
        model,
        config.optimizer.optimizer,
        0.1,
        momentum=config.optimizer.momentum,
        weight_decay=config.optimizer.weight_decay,
    )
    return model, optimizer
