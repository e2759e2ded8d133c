"""Compares the learning curves of a run with the curves of the reference runs.

    python tools/compare_curves.py --model_dir=runs/curve --golden=tests/golden/curves.json

Make the run with the command in the file's "settings" and --train_summary_steps=50, the spacing of
the reference curves. A value agrees if it is within the spread of the reference runs. The
contrastive loss also agrees within 3% of their mean. Exits with 1 if the contrastive loss disagrees
at any step.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tensorboard.backend.event_processing.event_accumulator import (  # noqa: E402
    EventAccumulator,
)
from tensorboard.util import tensor_util  # noqa: E402

METRICS = ("train/contrast_loss", "train/contrast_acc", "train/supervised_acc")
FINAL = ("eval/label_top_1_accuracy", "eval/label_top_5_accuracy")
LOSS_TOLERANCE = 0.03


def read_curves(model_dir: str) -> dict[str, dict[int, float]]:
    """Reads a run's summaries: {metric: {step: mean since the previous summary}}."""
    events = EventAccumulator(model_dir, size_guidance={"tensors": 0})
    events.Reload()
    return {
        metric: {
            event.step: float(tensor_util.make_ndarray(event.tensor_proto))
            for event in events.Tensors(metric)
        }
        for metric in METRICS
    }


def agrees(metric: str, value: float, reference: list[float]) -> bool:
    """Returns whether a value is within the spread, or (contrastive loss) within 3% of the mean."""
    if min(reference) <= value <= max(reference):
        return True
    mean = sum(reference) / len(reference)
    return metric == METRICS[0] and abs(value / mean - 1) <= LOSS_TOLERANCE


def compare(ours: dict[str, dict[int, float]], runs: list[dict]) -> tuple[list[str], int]:
    """Returns the lines of a table, and the number of contrastive losses that disagree."""
    names = [metric.removeprefix("train/") for metric in METRICS]
    width = 9 * (len(runs) + 1) + 4
    lines = [f"{'step':>5}  " + "".join(f"{name:<{width}}" for name in names)]
    lines.append(
        " " * 7
        + "".join(
            f"{'ours' + ''.join(f'     ref{i + 1}' for i in range(len(runs))):<{width}}"
            for _ in METRICS
        )
    )
    wrong = 0
    for i, step in enumerate(runs[0]["steps"]):
        cells = []
        for metric in METRICS:
            value, reference = ours[metric][step], [run[metric][i] for run in runs]
            good = agrees(metric, value, reference)
            wrong += metric == METRICS[0] and not good
            shown = f"{value:.4f}" + "".join(f"  {r:7.4f}" for r in reference)
            cells.append(f"{shown + ('' if good else ' *'):<{width}}")
        lines.append(f"{step:>5}  " + "".join(cells))
    lines.append(
        "* outside the spread of the reference runs (contrast_loss: and more than 3% from the mean)"
    )
    return lines, wrong


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--model_dir", type=os.path.expanduser, required=True, help="folder of the finished run"
    )
    parser.add_argument(
        "--golden",
        type=os.path.expanduser,
        required=True,
        help="curves.json of the reference runs",
    )
    args = parser.parse_args(argv)
    golden = json.loads(Path(args.golden).read_text())
    lines, wrong = compare(read_curves(args.model_dir), golden["runs"])
    print("\n".join(lines))
    result = json.loads((Path(args.model_dir) / "result.json").read_text())
    for metric in FINAL:
        reference = "  ".join(f"{run['final'][metric]:.4f}" for run in golden["runs"])
        print(f"{metric:<28} ours {result[metric]:.4f}   reference {reference}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
