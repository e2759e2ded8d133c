"""Measures a pretraining step: images per second, FLOP/s beside the device's peak, and memory.

The baseline is a plain version of the official code's step: float32, batch normalization as single
ops, the dense loss. All sides use our LARS. "naive" is the baseline with its encoder in Keras's
mixed bfloat16. --data_dir adds our step in a run that reads and augments images.
"""

import argparse
import math

import tensorflow as tf

from benchmarks import devices, matrix_ops, memory_use, real_input, report, step_sides, timing
from benchmarks.devices import Accelerator
from benchmarks.report import Report, measured
from benchmarks.step_sides import NAIVE, OFFICIAL, UNFUSED, Step
from tf_simclr import preflight
from tf_simclr.config import Config
from tf_simclr.config.choices import PRECISIONS
from tf_simclr.devices import strategies
from tf_simclr.errors import ConfigError

NETWORKS = {"resnet18": (18, 32, 128), "resnet50": (50, 224, 16)}
NOTES = """\
- step: loss, gradients, LARS and moving averages for a batch in memory, without blur.
- in convolutions and matmuls: their share of the time of all ops, from TensorFlow's profiler.
- FLOP/s: multiplications and additions of convolutions and matmuls, forward and backward, in the
  graph of the step, per second of the step. A multiply-add counts as two.
- matmul peak: FLOP/s of a product of two 2048 x 2048 matrices of that type in the same run.
- vendor's peak: of all devices, for dense matrices (benchmarks/devices.py) or --peak_tflops; the
  ratio is the share of it that the step achieves.
- memory: growth, at its peak, from before the model was built until the second step was done: of
  the first accelerator, or of the resident set of the CPU's process.
- in a run: our step in run.py, which also reads, augments and blurs; the baseline is the same step
  with a batch in memory. waits for input: the share of time in which the step waits for a batch."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this subcommand."""
    parser.add_argument(
        "--network",
        choices=(*NETWORKS, "tiny"),
        default="resnet18",
        help="ResNet-18 at 32 pixels and batch 128, or ResNet-50 at 224 and batch "
        "16 (default: %(default)s)",
    )
    parser.add_argument("--batch", type=report.positive, help="images per batch, on all devices")
    parser.add_argument(
        "--precision",
        type=report.list_of(str),
        default=["float32", "float32" + UNFUSED, "bfloat16"],
        help=f"our precisions, separated by commas; {UNFUSED}: with --fused_batch_norm=False "
        f"(default: float32,float32{UNFUSED},bfloat16)",
    )
    parser.add_argument("--jit_compile", action="store_true", help="compile our step with XLA")
    parser.add_argument("--alone", action="store_true", help="leave out the baselines")
    parser.add_argument(
        "--memory",
        action="store_true",
        help="also measure the memory of a CPU's process, each side in a new one; the memory of "
        "accelerators is always measured",
    )
    parser.add_argument(
        "--peak_tflops",
        type=float,
        help="peak of all devices together, in 10^12 FLOP/s, instead of the vendor's; for a single "
        "--precision",
    )
    parser.add_argument("--tpu_name", help="name of a TPU, or local on a TPU VM")
    parser.add_argument(
        "--data_dir", help="TFDS folder of --dataset: also measure our step in a run"
    )
    parser.add_argument("--dataset", help="(default: imagenet2012, or cifar10 at 32 pixels)")
    report.add_arguments(parser, repetitions=5)


def run(args: argparse.Namespace) -> None:
    """Measures what the command line asks for and prints the table."""
    config = _config(args)
    try:
        strategy = _strategy(args, config)
        if args.data_dir:
            run_config = config.replace(**_data(args, config))
            real_input.open_source(run_config)
    except ConfigError as error:
        raise SystemExit(str(error)) from error
    accelerator = devices.of(strategy)
    out = Report("step", repetitions=args.repetitions, json_path=args.json)
    setting = f"ResNet-{config.model.resnet_depth}, {config.data.image_size} pixels, "
    setting += f"batch {config.training.train_batch_size}"
    setting += ", XLA" if args.jit_compile else ""
    setting += f", {strategies.describe_models(strategy)}" if accelerator else ""
    names = [*args.precision] if args.alone else [OFFICIAL, NAIVE, *args.precision]
    sides: dict[str, Step] = {}
    memory: dict[str, float | None] = {}
    for name in names:
        sides[name], memory[name] = _build(name, config, strategy)
    medians = _rates(out, setting, sides, config, args.repetitions)
    if not accelerator:
        _matrix_shares(out, setting, sides)
    _flops(out, setting, sides, medians, accelerator, args.peak_tflops)
    if args.memory and not accelerator:
        memory = {name: memory_use.peak(step_sides.on_demand, name, config) for name in names}
    for name, peak in memory.items():
        baseline = memory.get(OFFICIAL)
        if peak is not None and name != OFFICIAL:
            values = [peak] if baseline is None else [peak, baseline]
            out.add(measured(f"step: memory, {name}", setting, "MB", values))
    if args.data_dir:
        for name in args.precision:
            rate = config.training.train_batch_size / medians[name]
            side = step_sides.settings(name, run_config)
            for row in real_input.rows(
                name, setting, side, strategy, repetitions=args.repetitions, in_memory=rate
            ):
                out.add(row)
    out.finish(NOTES + _unknown(accelerator, args))


def _config(args: argparse.Namespace) -> Config:
    """Returns the settings of the step.

    Raises:
      SystemExit: the arguments do not fit together.
    """
    for precision in args.precision:
        if precision.removesuffix(UNFUSED) not in PRECISIONS:
            raise SystemExit(f"--precision must be of {PRECISIONS}, got {precision!r}")
    if args.peak_tflops is not None and (args.peak_tflops <= 0 or len(args.precision) > 1):
        raise SystemExit(
            "--peak_tflops must be a positive peak of one precision, got "
            f"{args.peak_tflops:g} for --precision={','.join(args.precision)}: name one --precision"
        )
    depth, image_size, default_batch = NETWORKS.get(args.network, (18, 16, 4))
    return Config().replace(
        resnet_depth=depth,
        image_size=image_size,
        train_batch_size=args.batch or default_batch,
        seed=1,
        use_blur=False,
        width_multiplier=0.125 if args.network == "tiny" else 1.0,
        learning_rate=0.1,
        jit_compile=args.jit_compile,
    )


def _data(args: argparse.Namespace, config: Config) -> dict:
    """Returns the settings of the data of a run: as the presets, with blur above 32 pixels."""
    small = config.data.image_size <= 32
    dataset = args.dataset or ("cifar10" if small else "imagenet2012")
    return {"dataset": dataset, "data_dir": args.data_dir, "use_blur": not small}


def _strategy(args: argparse.Namespace, config: Config) -> tf.distribute.Strategy:
    """Makes the strategy of this machine's devices.

    Raises:
      ConfigError: the arguments do not fit the devices.
    """
    strategy = strategies.make_strategy(tpu_name=args.tpu_name)
    preflight.check_devices(config, strategy)
    if strategy.num_replicas_in_sync > 1 and not args.alone:
        raise ConfigError(
            f"the baselines run on one device, got {strategies.describe(strategy)}: set --alone, "
            "or CUDA_VISIBLE_DEVICES=0"
        )
    return strategy


def _build(
    name: str, config: Config, strategy: tf.distribute.Strategy
) -> tuple[Step, float | None]:
    """Returns a side's step, and the memory of the first accelerator that it needs, if reported."""
    device = strategy.extended.worker_devices[0]
    before = memory_use.of_device(device, reset_peak=True)
    step = step_sides.make(name, config, strategy)
    if before is None:
        return step, None
    for _ in range(2):
        step()
    after = memory_use.of_device(device)
    return step, after[1] - before[0] if after else None


def _rates(
    out: Report, setting: str, sides: dict[str, Step], config: Config, repetitions: int
) -> dict[str, float]:
    """Adds the rows of images per second and returns the seconds of each side's step."""
    times = timing.medians(list(sides.values()), repetitions=repetitions)
    medians = {name: ms / 1e3 for name, ms in zip(sides, times, strict=True)}
    rates = {name: config.training.train_batch_size / taken for name, taken in medians.items()}
    for name in sides:
        if name != OFFICIAL:
            values = [rates[side] for side in (name, OFFICIAL) if side in rates]
            out.add(measured(f"step, {name}", setting, "images/s", values))
    return medians


def _matrix_shares(out: Report, setting: str, sides: dict[str, Step]) -> None:
    """Adds the rows of the time in convolutions and matmuls, except for code compiled by XLA."""
    shares = {name: 100 * matrix_ops.matrix_share(step) for name, step in sides.items()}
    for name, share in shares.items():
        if name != OFFICIAL and not math.isnan(share):
            values = [shares[side] for side in (name, OFFICIAL) if side in shares]
            out.add(measured(f"in convolutions and matmuls, {name}", setting, "%", values))


def _flops(
    out: Report,
    setting: str,
    sides: dict[str, Step],
    medians: dict[str, float],
    accelerator: Accelerator | None,
    peak_tflops: float | None,
) -> None:
    """Adds the rows of FLOP/s beside the peak: the given, the vendor's, or a measured product's."""
    peaks: dict[str, float] = {}
    for name, step in sides.items():
        speed, dtype = step.flops() / medians[name], step_sides.precision(name)
        if accelerator is None and peak_tflops is None:
            peak = peaks.setdefault(dtype, matrix_ops.matmul_peak(dtype))
            what = f"GFLOP/s beside the {dtype} matmul peak, {name}"
            out.add(measured(what, setting, "count", (1e-9 * speed, 1e-9 * peak)))
            continue
        vendor = accelerator and accelerator.peak_flops(dtype)
        tflops = peak_tflops or (vendor and vendor / 1e12)
        what = f"TFLOP/s beside the {dtype} peak, {name}" if tflops else f"TFLOP/s, {name}"
        out.add(measured(what, setting, "TFLOP/s", [1e-12 * speed, *([tflops] if tflops else [])]))


def _unknown(accelerator: Accelerator | None, args: argparse.Namespace) -> str:
    """Returns a note on accelerators and precisions without a known peak; "" if all are known."""
    if accelerator is None or args.peak_tflops:
        return ""
    if all(accelerator.peak_flops(step_sides.precision(name)) for name in args.precision):
        return ""
    return (
        f"\n- no share of the peak: benchmarks/devices.py has no such peak of {accelerator.name}; "
        "--peak_tflops gives it."
    )
