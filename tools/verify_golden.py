"""Compares this code with golden numbers of the official code.

    python tools/verify_golden.py ../shared/golden
    python tools/verify_golden.py --fast ../shared/golden

The directory may hold ntxent.npz, lars.npz, schedule.json, augment.npz, curves.json, and the
networks models/NAME/, tf1/NAME/ and saved_model/, in the format of its README. Prints a line for
each quantity: the largest absolute difference, the largest relative difference, the tolerance, and
"ok" or "WRONG". Learning curves take a training run: a note names the commands to compare them.

A relative difference is max|ours - golden| / max|golden| of an array. Gradient norms, moving
averages and LARS weights have one ratio for each variable, and the line shows the worst. (A
gradient below 1e-4 of the global norm is measured against that.) A training step is compared with
the same step in float64: the golden numbers, and ours with separate and with fused batch
normalization. Its tolerance is the usual one, or twenty times the noise of float32 on this machine
(golden_checks/steps.py). Random operations, drawn with
fixed seeds, are compared by a two-sample Kolmogorov-Smirnov test. --fast compares the block-wise
loss and the batched augmentation, which runs may use instead. Exits with 0 if every comparison is
ok, and with 1 if one is wrong or there was nothing to compare.
"""

import argparse
import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from absl import logging  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from golden_checks import curves, images, losses, networks, optimizers  # noqa: E402
from golden_checks.report import HEADER, Report  # noqa: E402

_ARRAYS: dict[str, Callable[..., None]] = {
    "ntxent.npz": losses.compare,
    "lars.npz": optimizers.compare_lars,
    "augment.npz": images.compare,
}
_FAST: dict[str, Callable[..., None]] = {
    "ntxent.npz": functools.partial(losses.compare, fast=True),
    "augment.npz": functools.partial(images.compare, fast=True),
}
_EXPECTED = {"README.md", "schedule.json", "curves.json", "models", "tf1", "saved_model"}


def verify(directory: Path, *, fast: bool = False) -> int:
    """Compares everything in the directory and returns the exit status."""
    checks = _ARRAYS | _FAST if fast else _ARRAYS
    report = Report()
    arrays = {}
    print(HEADER)
    for name in _ARRAYS:
        if (directory / name).exists():
            with report.guard(name), np.load(directory / name) as file:
                arrays[name] = dict(file)
    # TensorFlow needs to know its devices before its first operation.
    _split_cpu(losses.num_replicas(arrays.get("ntxent.npz", {})))
    for name, values in arrays.items():
        with report.guard(name):
            checks[name](report, name, values)
    if (directory / "schedule.json").exists():
        with report.guard("schedule.json"):
            cases = json.loads((directory / "schedule.json").read_text())
            optimizers.compare_schedules(report, "schedule.json", cases)
    for name in _networks(directory):
        with report.guard(name):
            networks.compare(report, name, directory / name)
    if (directory / "curves.json").exists():
        with report.guard("curves.json"):
            curves.compare(report, "curves.json", directory / "curves.json")
    report.not_compared({path.name for path in directory.iterdir()} - set(_ARRAYS) - _EXPECTED)
    return report.finish()


def _networks(directory: Path) -> list[str]:
    """Lists the folders of networks: of TF2 checkpoints, of TF1 checkpoints, and a SavedModel."""
    names = [
        f"{parent}/{folder.name}"
        for parent in ("models", "tf1")
        if (directory / parent).is_dir()
        for folder in sorted((directory / parent).iterdir())
    ]
    return names + (["saved_model"] if (directory / "saved_model").is_dir() else [])


def _split_cpu(replicas: int):
    """Splits the CPU into as many devices as there are replicas, unless this was done before."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    if replicas > 1 and tf.config.get_logical_device_configuration(cpu) is None:
        parts = [tf.config.LogicalDeviceConfiguration()] * replicas
        try:
            tf.config.set_logical_device_configuration(cpu, parts)
        except RuntimeError:
            pass  # TensorFlow has started; the cases that need more devices will report it


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", metavar="DIR", help="folder of the golden files")
    parser.add_argument("--fast", action="store_true", help="compare the faster implementations")
    args = parser.parse_args(argv)
    directory = Path(args.directory)
    if not directory.is_dir():
        sys.exit(f"verify_golden.py: {str(directory)!r} is not a directory")
    logging.set_verbosity(logging.ERROR)
    sys.exit(verify(directory, fast=args.fast))


if __name__ == "__main__":
    main()
