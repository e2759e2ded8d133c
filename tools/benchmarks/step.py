"""One training step of pretraining: images a second, and where its time goes.

The baseline is the official code's step, written plainly: float32, batch normalisation by single
ops, the dense loss; LARS is ours on all sides. "naive" is that with the encoder in Keras's mixed
bfloat16.
"""

import argparse
import glob
import math
import os
import re
import tempfile
import time
from collections.abc import Callable
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from benchmarks import report, timing
from benchmarks.loss import official_loss
from benchmarks.report import Report, Row
from tf_simclr import build, objective
from tf_simclr.config import Config
from tf_simclr.config.choices import PRECISIONS
from tf_simclr.models import layers
from tf_simclr.optim import policy
from tf_simclr.optim.loss_scale import LossScale
from tf_simclr.training import steps

NETWORKS = {"resnet18": (18, 32, 128), "resnet50": (50, 224, 16)}
FUSED = "+fused"
MATRIX = 2048  # rows and columns of those whose product is the machine's peak
_OP_EVENT = re.compile(r"[^:]+:(?P<type>\w+)")
_MATRIX_OPS = re.compile("Conv2D|MatMul")
_CALLS = re.compile("PartitionedCall|While|If|Case")  # their ops have events of their own
NOTES = """\
- step: loss, gradients, LARS and moving averages of a batch that lies in memory, without blur.
- in convolutions and matmuls: their share of the time in all ops, by TensorFlow's profiler.
- FLOP/s: multiplications and additions of the convolutions and matmuls, over the step's time.
- matmul peak: that of a product of two 2048 x 2048 matrices of the type, in the same run."""


def add_arguments(parser: argparse.ArgumentParser):
    """The arguments of this subcommand."""
    parser.add_argument(
        "--network",
        choices=(*NETWORKS, "tiny"),
        default="resnet18",
        help="ResNet-18 at 32 pixels and batch 128, or ResNet-50 at 224 and batch "
        "16 (default: %(default)s)",
    )
    parser.add_argument("--batch", type=report.positive, help="images a batch")
    parser.add_argument(
        "--precision",
        type=report.list_of(str),
        default=["float32", "float32" + FUSED, "bfloat16"],
        help=f"ours, with commas between; {FUSED}: with --fused_batch_norm "
        f"(default: float32,float32{FUSED},bfloat16)",
    )
    parser.add_argument("--jit_compile", action="store_true", help="ours, compiled by XLA")
    report.add_arguments(parser, repetitions=5)


def run(args: argparse.Namespace):
    """Prints the table of the command line's measurements."""
    for precision in args.precision:
        if precision.removesuffix(FUSED) not in PRECISIONS:
            raise SystemExit(f"--precision must be of {PRECISIONS}, got {precision!r}")
    out = Report("step", repetitions=args.repetitions, json_path=args.json)
    depth, image_size, batch = NETWORKS.get(args.network, (18, 16, 4))
    batch = args.batch or batch
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
    for name in list(sides)[1:]:
        out.add(
            Row(f"step, {name}", setting, "images/s", rates[name], rates["official"], "measured")
        )
    shares = {name: matrix_share(step) for name, step in sides.items()}
    for name in list(sides)[1:]:
        out.add(
            Row(
                f"in convolutions and matmuls, {name}",
                setting,
                "%",
                100 * shares[name],
                100 * shares["official"],
                "measured",
            )
        )
    work = matrix_flops(sides["official"].graph())
    peaks = {}
    for name in sides:
        dtype = {"naive bfloat16": "bfloat16", "official": "float32"}.get(name, name)
        dtype = dtype.removesuffix(FUSED)
        peak = peaks.setdefault(dtype, matmul_peak(dtype))
        out.add(
            Row(
                f"GFLOP/s beside the {dtype} matmul peak, {name}",
                setting,
                "count",
                1e-9 * work / medians[name],
                1e-9 * peak,
                "measured",
            )
        )
    out.finish(NOTES)


class Step:
    """A training step on a batch that lies in memory; calling it returns when it is done."""

    def __init__(self, config: Config, step: Callable, *, jit_compile: bool = False):
        n, size = config.training.train_batch_size, config.data.image_size
        rng = np.random.default_rng(0)
        images = tf.constant(rng.uniform(size=(n, 2, size, size, 3)), tf.float32)
        labels = tf.one_hot(tf.range(n) % 10, 10)
        self._step = tf.function(step, autograph=False, jit_compile=jit_compile or None)
        self._batch = images, labels

    def __call__(self):
        metrics = self._step(*self._batch)
        return float(metrics["total_loss"])

    def graph(self) -> tf.Graph:
        """What a call executes, where it is not compiled."""
        return self._step.get_concrete_function(*self._batch).graph


def ours(config: Config) -> Step:
    """The step of `run.py` with these settings."""
    model, optimizer = _made(config)
    made = objective.make_objective(config, model, optimizer)
    trainable = policy.trainable_variables(model)
    scale = LossScale() if config.training.precision == "float16" else None

    def step(images, labels):
        def differentiate(trainable, **scale):
            return made.differentiate(images, labels, trainable, **scale)

        return steps.train_step(differentiate, optimizer, trainable, scale)

    return Step(config, step, jit_compile=config.training.jit_compile)


def official(config: Config, *, naive: bool = False) -> Step:
    """The official code's step; naive: in the global policy mixed_bfloat16, as one would try it."""

    def batch_norm(*, fused_in_float32, **settings):
        del fused_in_float32  # which is ours
        return keras.layers.BatchNormalization(**settings)

    with mock.patch.object(layers, "BatchNorm", batch_norm):
        model, optimizer = _made(config.replace(precision="bfloat16" if naive else "float32"))
    trainable = policy.trainable_variables(model)
    decayed = policy.loss_decay_variables(model, config.optimizer.optimizer)

    def step(images, labels):
        targets = steps.Targets.of(labels).twice()

        def loss():
            outputs = steps.pretrain_outputs(model, tf.unstack(images, axis=1))
            value = official_loss(outputs["proj_head_output"], temperature=config.loss.temperature)
            value += steps.weight_decay_loss(decayed, config.optimizer.weight_decay)
            value += steps.supervised_loss(outputs["logits_sup"], targets)["supervised_loss"]
            return {"total_loss": value}

        def differentiate(trainable):
            return steps.gradients(loss, trainable)

        return steps.train_step(differentiate, optimizer, trainable)

    return Step(config, step)


def _made(config: Config):
    model = build.make_model(config, 10)
    optimizer = policy.make_optimizer(
        model,
        config.optimizer.optimizer,
        0.1,
        momentum=config.optimizer.momentum,
        weight_decay=config.optimizer.weight_decay,
    )
    return model, optimizer


def matrix_share(step: Callable) -> float:
    """Of the time that a call spends in ops, the part in convolutions and matrix products.

    nan where ops cannot be told apart, as in what XLA has compiled.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=2, python_tracer_level=0)
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder, options):
            step()
        (path,) = glob.glob(os.path.join(folder, "plugins", "profile", "*", "*.xplane.pb"))
        with open(path, "rb") as file:
            space = xplane_pb2.XSpace.FromString(file.read())
    in_matrix_ops = in_ops = 0
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            found = _OP_EVENT.fullmatch(plane.event_metadata[event.metadata_id].name)
            if not found or _CALLS.search(found["type"]):
                continue
            in_ops += event.duration_ps
            if _MATRIX_OPS.search(found["type"]):
                in_matrix_ops += event.duration_ps
    return in_matrix_ops / in_ops if in_matrix_ops else float("nan")


def matrix_flops(graph: tf.Graph) -> int:
    """Multiplications and additions of a graph's convolutions and matrix products.

    A pixel of padding counts as any other.
    """
    flops = 0
    for op in graph.get_operations():
        if op.type in ("Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter"):
            # The kernel and the smaller of the two sides of the layer say it all.
            kernel, output = {
                "Conv2D": lambda op: (op.inputs[1].shape, op.outputs[0].shape),
                "Conv2DBackpropInput": lambda op: (op.inputs[1].shape, op.inputs[2].shape),
                "Conv2DBackpropFilter": lambda op: (op.outputs[0].shape, op.inputs[2].shape),
            }[op.type](op)
            height, width, channels, _ = kernel
            flops += 2 * math.prod(output) * height * width * channels
        elif op.type == "MatMul":
            rows, inner = op.inputs[0].shape
            if op.get_attr("transpose_a"):
                rows, inner = inner, rows
            flops += 2 * rows * inner * op.outputs[0].shape[1]
    return flops


def matmul_peak(dtype: str) -> float:
    """Multiplications and additions a second of a large matrix product, the best of ten calls."""
    matrix = tf.cast(tf.random.stateless_uniform((MATRIX, MATRIX), seed=[1, 2]), dtype)
    product = tf.function(lambda a: tf.reduce_sum(a @ a, axis=0))
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        product(matrix).numpy()
        seconds.append(time.perf_counter() - began)
    return 2 * MATRIX**3 / min(seconds)
