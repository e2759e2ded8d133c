"""Compares curves.json as far as this takes no training run."""

import json
from pathlib import Path

import convert_checkpoint
from golden_checks.report import Report


def compare(report: Report, name: str, path: Path) -> None:
    """Compares the length of the reference runs, and notes how to compare their curves.

    The reference runs' flags are parsed as ours.
    """
    golden = json.loads(path.read_text())
    flags = str(golden["settings"]).split()
    config = convert_checkpoint.parse_settings(flags)
    for number, run in enumerate(golden["runs"]):
        report.exact(f"{name} [{number}] steps", config.training.train_steps, run["steps"][-1])
    report.note(
        f"the curves in {name} take a training run: `python run.py {' '.join(flags)} "
        f"--train_summary_steps=50 --model_dir=DIR`, then `python tools/compare_curves.py "
        f"--model_dir=DIR --golden={path}`"
    )
