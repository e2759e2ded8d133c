"""Measures what the diagnostics of pretraining cost (--monitor_images, at the automatic interval).

The baseline is the training between two measurements.
"""

import argparse
import tempfile
from collections.abc import Callable

import tensorflow as tf

from benchmarks import report, timing
from benchmarks.report import Report, Row, measured
from tf_simclr import run_state
from tf_simclr.config import Config
from tf_simclr.data.sources.opening import open_data
from tf_simclr.devices import strategies
from tf_simclr.modes import train
from tf_simclr.run_state import RunState
from tf_simclr.training import embedder, kept_images, monitor, run_input
from tf_simclr.training.plan import make_plan

_STEPS = 5  # of a call, which also draws the views for a summary and returns to Python
_SMALL = {"image_size": 32, "eval_split": "test", "use_blur": False, "resnet_depth": 18, "seed": 1}
# The settings of gin/cifar10_resnet18.gin and gin/demo.gin that matter here.
PRESETS = {
    "cifar10_resnet18": {
        "dataset": "cifar10",
        "color_jitter_strength": 0.5,
        "train_batch_size": 512,
        "train_epochs": 1000,
    },
    "demo": {
        "dataset": "shapes",
        "color_jitter_strength": 0.0,
        "width_multiplier": 0.25,
        "global_bn": False,
        "optimizer": "adam",
        "train_batch_size": 64,
        "train_steps": 800,
        "monitor_images": 256,
    },
}
NOTES = """\
- a measurement: embeds the images and computes the figures; the first one, which also traces, does
  not count.
- training: a step, times the number of steps between two measurements.
- cost: the time of a measurement divided by that of the training before it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this subcommand."""
    parser.add_argument(
        "--preset",
        type=report.list_of(str),
        default=list(PRESETS),
        metavar="NAMES",
        help=f"of {', '.join(PRESETS)}, separated by commas (default: all)",
    )
    parser.add_argument("--data_dir", help="TFDS folder in which the data sets are prepared")
    parser.add_argument(
        "--width_multiplier",
        type=float,
        help="width of the network (default: as in the preset)",
    )
    report.add_arguments(parser, repetitions=5)


def run(args: argparse.Namespace) -> None:
    """Measures what the command line asks for and prints the table."""
    out = Report("monitor", repetitions=args.repetitions, json_path=args.json)
    for name in args.preset:
        settings = _SMALL | PRESETS[name] | {"data_dir": args.data_dir}
        if args.width_multiplier:
            settings["width_multiplier"] = args.width_multiplier
        with tempfile.TemporaryDirectory() as model_dir:
            config = Config().replace(**settings, model_dir=f"{model_dir}/run")
            for row in _rows(name, config, args.repetitions):
                out.add(row)
    out.finish(NOTES)


def _rows(name: str, config: Config, repetitions: int) -> list[Row]:
    """Times steps and measurements, which take turns."""
    source, strategy = open_data(config), strategies.from_config(config)
    plan = make_plan(config, source, evaluates=False)
    state = run_state.build(config, source, plan, strategy)
    call_ms, measurement_ms = timing.medians(
        [_make_steps(state), _make_measurement(state)], repetitions=repetitions
    )
    step_ms = call_ms / _STEPS
    every = plan.monitor_every_steps
    batch = config.training.train_batch_size
    setting = f"{name}, batch {batch}, {plan.monitor_images} images every {every} steps"
    cost = 100 * measurement_ms / (every * step_ms)
    return [
        measured("a step", f"{name}, batch {batch}", "ms", [step_ms]),
        measured("a measurement", setting, "ms", [measurement_ms, every * step_ms]),
        Row("cost", setting, "%", cost, None, "measured"),
    ]


def _make_steps(state: RunState) -> Callable[[], object]:
    settled, _ = kept_images.settle(
        state.config, state.source, state.strategy, num_steps=state.plan.total_steps
    )
    batches = run_input.train_batches(settled, state.source, state.strategy, examples_seen=0)
    run_steps, iterator = train.make_run_steps(state), iter(batches)
    return lambda: run_steps(iterator, tf.constant(_STEPS))[0].numpy()


def _make_measurement(state: RunState) -> Callable[[], object]:
    embed = embedder.Embedder(
        state.config,
        state.source,
        state.strategy,
        state.task,
        split=state.plan.monitor_split,
        count=state.plan.monitor_images,
    )
    return lambda: monitor.figures(embed())
