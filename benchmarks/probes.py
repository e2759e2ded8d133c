"""Measures time and memory of probes on made-up features that do not fit in memory as float32.

The features are drawn into a float16 memory map: a center for each class, plus noise. All are read
from the map in each pass, as it happens with features of more than 1 GB. There is no baseline.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import local, memory_use, report
from benchmarks.report import Report, Row, measured
from tf_simclr.probes import blocks, knn, lbfgs, logistic
from tf_simclr.probes.blocks import Matrix
from tf_simclr.probes.softmax_loss import SoftmaxLoss

IMAGENET = 1_281_167  # training images of ImageNet
_SPREAD = 0.1  # standard deviation of the centers; that of the noise is 1
_DRAWN = 8192  # rows drawn at a time
NOTES = """\
- scaling: mean and standard deviation of each feature. spectrum: X'X and its eigenvectors.
- a pass: the loss and its gradients over all features. Its time is a n d c for n examples, d
  features and c classes; the line "law" has a.
- a fit: one strength to full convergence, from zero, without scaling and spectrum.
- a sweep: strengths evenly spaced between the strongest and the weakest. Those that probes use are
  closer to one another and need fewer passes each.
- memory: peak of the process's resident set, with TensorFlow. It holds for any number of examples.
- An extrapolated time is proportional to the number of examples and has not been measured."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this subcommand."""
    for name, default, text in (
        ("examples", 100_000, "training examples"),
        ("features", 2048, "features of an example"),
        ("classes", 1000, "classes"),
        ("queries", 5000, "test examples whose nearest neighbors are searched"),
        ("strengths", 3, "strengths of the sweep"),
    ):
        parser.add_argument(
            f"--{name}",
            type=report.positive,
            default=default,
            help=f"{text} (default: %(default)s)",
        )
    parser.add_argument(
        "--work_dir", help="folder for the temporary file with the features (default: the system's)"
    )
    report.add_arguments(parser, repetitions=3)


def run(args: argparse.Namespace) -> None:
    """Measures what the command line asks for and prints the table."""
    out = Report("probes", repetitions=args.repetitions, json_path=args.json)
    with tempfile.TemporaryDirectory(dir=args.work_dir) as folder:
        shape = (args.examples + args.queries, args.features)
        local.in_new_process(draw, folder, shape, args.classes)
        for stages in (_fit_stages, _neighbor_stages):
            times, peak = local.in_new_process(_measure, stages, folder, vars(args))
            for row in _rows(args, times):
                out.add(row)
            name = "nearest neighbors" if stages is _neighbor_stages else "logistic regression"
            out.add(measured(f"memory: {name}", _setting(args), "MB", [peak]))
    out.finish(NOTES)


def draw(folder: str, shape: tuple[int, int], num_classes: int) -> None:
    """Draws features.npy, float16 of a shape (n, d), and labels.npy, (n,), into a folder."""
    rng = np.random.default_rng(0)
    centers = _SPREAD * rng.standard_normal((num_classes, shape[1]), np.float32)
    labels = rng.integers(num_classes, size=shape[0])
    labels[:num_classes] = np.arange(num_classes)[: shape[0]]
    path = Path(folder, "features.npy")
    features = np.lib.format.open_memmap(path, "w+", np.float16, shape)
    for start in range(0, shape[0], _DRAWN):
        part = labels[start : start + _DRAWN]
        noise = rng.standard_normal((len(part), shape[1]), np.float32)
        features[start : start + _DRAWN] = centers[part] + noise
    np.save(Path(folder, "labels.npy"), labels)


def _load(folder: str) -> tuple[np.ndarray, np.ndarray]:
    features = np.load(Path(folder, "features.npy"), mmap_mode="r", allow_pickle=False)
    return features, np.load(Path(folder, "labels.npy"), allow_pickle=False)


def _measure(
    stages: Callable[[str, dict], dict[str, tuple[float, int]]], folder: str, args: dict
) -> tuple[dict[str, tuple[float, int]], float]:
    """Returns what `stages` returns, and the peak of this process's resident set in bytes."""
    times = stages(folder, args)
    return times, memory_use.peak_of_process()


def _fit_stages(folder: str, args: dict) -> dict[str, tuple[float, int]]:
    """Returns {stage: (seconds, passes)} of logistic regression."""
    blocks.MEMORY_BYTES = 0  # nothing stays in memory, as with the features of ImageNet
    features, labels = _load(folder)
    matrix, labels = Matrix(features[: args["examples"]]), labels[: args["examples"]]
    times: dict[str, tuple[float, int]] = {}
    scaling, times["scaling"] = _timed(lambda: blocks.measure_scaling(matrix))
    loss = SoftmaxLoss(matrix, labels, args["classes"], scaling)
    loss.sums(loss.start())  # traces
    spectrum, times["spectrum"] = _timed(lambda: lbfgs.decompose(loss))
    passes = [_timed(lambda: loss.sums(loss.start()))[1][0] for _ in range(args["repetitions"])]
    times["a pass"] = statistics.median(passes), 1

    def minimize(l2: float, start: lbfgs.Coefficients, tolerance: float) -> lbfgs.Minimum:
        return lbfgs.minimize(
            loss, spectrum, l2=l2, start=start, tolerance=tolerance, iterations=300
        )

    fit, (seconds, _) = _timed(lambda: minimize(1.0, loss.start(), loss.tolerance))
    times["a fit, l2 = 1" + ("" if fit.converged else ", not converged")] = seconds, fit.passes
    strengths = np.logspace(5, -6, args["strengths"])
    began, last, total, converged = time.perf_counter(), loss.start(), 0, 0
    for l2 in strengths:
        minimum = minimize(float(l2), last, logistic.SWEEP_TOLERANCE)
        last = minimum.coefficients
        total, converged = total + minimum.passes, converged + minimum.converged
    name = f"a sweep, {len(strengths)} strengths, {converged} converged"
    times[name] = time.perf_counter() - began, total
    return times


def _neighbor_stages(folder: str, args: dict) -> dict[str, tuple[float, int]]:
    """Returns {stage: (seconds, passes)} of nearest neighbors."""
    features, labels = _load(folder)
    n = args["examples"]
    _, seconds = _timed(lambda: knn.classify(features[:n], labels[:n], features[n:], labels[n:]))
    return {f"nearest neighbors, {args['queries']:,} queries": seconds}


def _timed(function: Callable) -> tuple:
    began = time.perf_counter()
    result = function()
    return result, (time.perf_counter() - began, 1)


def _setting(args: argparse.Namespace) -> str:
    return f"{args.examples:,} x {args.features:,}, {args.classes:,} classes"


def _rows(args: argparse.Namespace, times: dict[str, tuple[float, int]]) -> list[Row]:
    """Returns the measured times, and each extrapolated to the training set of ImageNet."""
    rows = []
    for stage, (seconds, passes) in times.items():
        setting = _setting(args)
        what = f"{stage}: {passes} passes" if passes > 1 else stage
        rows.append(measured(what, setting, "s", [seconds]))
        if args.examples != IMAGENET:
            factor = IMAGENET / args.examples
            larger = setting.replace(f"{args.examples:,}", f"extrapolated to {IMAGENET:,}")
            rows.append(Row(what, larger, "s", seconds * factor, None, "computed"))
        if stage == "a pass":
            work = args.examples * args.features * args.classes
            rows.append(
                Row("law: a", "seconds / (n d c)", "ps", 1e12 * seconds / work, None, "measured")
            )
    return rows
