"""The programs that end_to_end compares: their settings, their commands, and one timed run."""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import tensorflow_datasets as tfds

from benchmarks import lightly_env, moments

ROOT = Path(__file__).resolve().parents[1]
OURS, OFFICIAL, LIGHTLY = "tf_simclr", "official", "lightly"
FLOAT32, BFLOAT16 = "float32", "bfloat16"
_LAST_LINES = 15  # of a side that fails
# The official README's settings for CIFAR-10, and the flags' defaults.
_CIFAR_RECIPE = dict(
    color_jitter_strength=0.5,
    use_blur=False,
    temperature=0.5,
    weight_decay=1e-4,
    learning_rate=1.0,
)
_IMAGENET_RECIPE = dict(
    color_jitter_strength=1.0, use_blur=True, temperature=0.1, weight_decay=1e-6, learning_rate=0.3
)


@dataclasses.dataclass(frozen=True)
class Network:
    """Holds the settings of a network.

    Attributes:
      resnet_depth: depth of the ResNet.
      image_size: side of a view in pixels.
      batch: images per step.
      dataset: name of the TFDS data set.
      recipe: augmentation, temperature and optimizer, by flag.
    """

    resnet_depth: int
    image_size: int
    batch: int
    dataset: str
    recipe: Mapping[str, float | bool]


NETWORKS = {
    "resnet18": Network(18, 32, 128, "cifar10", _CIFAR_RECIPE),
    "resnet50": Network(50, 224, 16, "imagenet2012", _IMAGENET_RECIPE),
}


@dataclasses.dataclass(frozen=True)
class Side:
    """Describes a program to time.

    Attributes:
      name: shown while it runs.
      precision: the precision in which it computes.
      command: takes the folder of a run and the file for its moments; returns the command.
    """

    name: str
    precision: str
    command: Callable[[Path, Path], list]


def network_of(args: argparse.Namespace) -> Network:
    """Returns the network that the command line chooses, with its changes."""
    network = NETWORKS[args.network]
    changed = {"batch": args.batch, "dataset": args.dataset}
    given = {name: value for name, value in changed.items() if value}
    return dataclasses.replace(network, **given)


def make_pairs(
    args: argparse.Namespace, network: Network, builder: tfds.core.DatasetBuilder, folder: Path
) -> list[tuple[Side, Side | None]]:
    """Returns our side and its baseline for each precision. A side may be in several pairs."""
    splits = builder.info.splits
    eval_split = "validation" if "validation" in splits else "test"

    def make_side(kind: str, checkout: Path, precision: str) -> Side:
        return _checkout_side(args, network, kind, checkout, precision, eval_split=eval_split)

    ours = [make_side(OURS, ROOT, precision) for precision in args.precision]
    if args.vs is None:
        return [(side, None) for side in ours]
    if args.vs == LIGHTLY:
        interpreter = lightly_env.python(args.venv)
        classes = lightly_env.export_images(builder, args.steps * network.batch, folder)
        others = [
            _lightly_side(args, network, interpreter, folder, classes, p) for p in args.precision
        ]
    else:
        kind, checkout = args.vs
        if kind == OFFICIAL:  # it has one precision, so all pairs share its runs
            others = [make_side(kind, checkout, FLOAT32)] * len(ours)
        else:
            others = [make_side(kind, checkout, precision) for precision in args.precision]
    return list(zip(ours, others, strict=True))


def _checkout_side(
    args: argparse.Namespace,
    network: Network,
    kind: str,
    checkout: Path,
    precision: str,
    *,
    eval_split: str,
) -> Side:
    flags = {
        # The official code exports only after an evaluation; lightly's side does not evaluate.
        "mode": "train" if args.vs == LIGHTLY else "train_then_eval",
        "dataset": network.dataset,
        "eval_split": eval_split,
        "eval_steps": 1,
        "eval_batch_size": network.batch,
        "image_size": network.image_size,
        "resnet_depth": network.resnet_depth,
        "width_multiplier": f"{args.width_multiplier:g}",
        "train_batch_size": network.batch,
        "train_steps": args.steps,
        "checkpoint_steps": args.checkpoint_steps,
        "use_tpu": False,
    } | dict(network.recipe)
    if args.data_dir:
        flags["data_dir"] = args.data_dir
    if kind == OURS:
        flags |= {"precision": precision, "train_summary_steps": args.checkpoint_steps}

    def command(folder: Path, stamps: Path) -> list:
        program = "benchmarks.sides.tensorflow_side"
        interpreter = sys.executable if checkout == ROOT else args.python
        listed = [f"--{name}={value}" for name, value in flags.items()]
        where = f"--model_dir={folder}"
        return [interpreter, "-m", program, kind, checkout, stamps, *listed, where]

    return Side(kind if checkout == ROOT or kind == OFFICIAL else str(checkout), precision, command)


def _lightly_side(
    args: argparse.Namespace,
    network: Network,
    interpreter: Path,
    images: Path,
    num_classes: int,
    precision: str,
) -> Side:
    settings = {
        "images": str(images),
        "resnet_depth": network.resnet_depth,
        "image_size": network.image_size,
        "num_classes": num_classes,
        "train_batch_size": network.batch,
        "train_steps": args.steps,
        "checkpoint_steps": args.checkpoint_steps,
        "precision": precision,
    } | dict(network.recipe)

    def command(folder: Path, stamps: Path) -> list:
        written = json.dumps(settings | {"model_dir": str(folder)})
        return [interpreter, "-m", "benchmarks.sides.lightly_side", stamps, written]

    return Side(LIGHTLY, precision, command)


def timed_run(side: Side, window: int) -> dict[str, float]:
    """Runs a side once and returns the seconds of its parts (`moments.parts`).

    Raises:
      RuntimeError: it fails, or it does not reach all moments.
    """
    with tempfile.TemporaryDirectory() as folder:
        model_dir, stamps, log = (Path(folder) / name for name in ("run", "stamps", "log"))
        model_dir.mkdir()
        command = list(map(str, side.command(model_dir, stamps)))
        started = time.monotonic()
        with open(log, "w") as file:
            # Its working directory is empty, because a module there would come first in imports.
            path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
            environment = os.environ | {"PYTHONPATH": path}
            code = subprocess.call(command, stdout=file, stderr=file, cwd=folder, env=environment)
        ended = time.monotonic()
        lines = log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        if code:
            raise RuntimeError("\n".join((f"{side.name} failed with status {code}:", *lines)))
        written = moments.read(stamps)
        try:
            seconds = moments.parts(written, started=started, ended=ended, window=window)
        except ValueError as error:
            raise RuntimeError("\n".join((f"{side.name}: {error}:", *lines))) from error
    print(f"{side.name}, {side.precision}: {seconds[moments.WHOLE]:.1f} s", file=sys.stderr)
    return seconds


def parse_baseline(text: str) -> str | tuple[str, Path]:
    """Parses --vs, for argparse: LIGHTLY, or OURS or OFFICIAL with the folder of its run.py."""
    if text == LIGHTLY:
        return text
    folder = Path(text).resolve()
    if (folder / "run.py").is_file():
        if (folder / "tf_simclr" / "experiment.py").is_file():
            return OURS, folder
        if (folder / "objective.py").is_file() and (folder / "lars_optimizer.py").is_file():
            return OFFICIAL, folder
    raise argparse.ArgumentTypeError(
        f"needs lightly, the folder tf2 of the official code, or a checkout of this project, "
        f"got {text!r}"
    )
