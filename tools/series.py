"""Helpers for tools that make a series of runs. Each run has its own folder and runs once."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
TOP_1 = "eval/label_top_1_accuracy"


def series_parser(description: str | None) -> argparse.ArgumentParser:
    """Makes a parser with the arguments of every series: --checkpoint, --work_dir and run.py's."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoint",
        type=os.path.expanduser,
        required=True,
        help="model_dir of the pretrained run",
    )
    parser.add_argument(
        "--work_dir", type=os.path.expanduser, required=True, help="folder of the runs and results"
    )
    parser.add_argument("settings", nargs="*", help="flags of run.py, after --")
    return parser


def result(model_dir: Path, arguments: Sequence[str], *, file: str = "result.json") -> dict:
    """Runs run.py and returns the content of its result file.

    A run that has finished with the same arguments is not repeated. An interrupted run resumes from
    its checkpoint.

    Args:
      model_dir: folder of the run; its output goes to the file run.log in it.
      arguments: flags of run.py.
      file: name of the result file, which the run writes last.

    Raises:
      SystemExit: the run failed; the message holds its last lines.
    """
    done = model_dir / "done.json"
    if done.exists() and json.loads(done.read_text()) == list(arguments):
        return json.loads((model_dir / file).read_text())
    done.unlink(missing_ok=True)
    model_dir.mkdir(parents=True, exist_ok=True)
    print(f"{model_dir} ...", file=sys.stderr, flush=True)
    log = model_dir / "run.log"
    with open(log, "w") as output:
        program = [sys.executable, str(ROOT / "run.py"), *arguments, f"--model_dir={model_dir}"]
        status = subprocess.run(program, stdout=output, stderr=output).returncode
    if status:
        last = "\n".join(log.read_text().splitlines()[-5:])
        sys.exit(f"{model_dir}: run.py ended with {status}:\n{last}\nThe same command resumes.")
    done.write_text(json.dumps(list(arguments)))
    return json.loads((model_dir / file).read_text())


def percent(values: Sequence[float]) -> str:
    """Formats shares in percent: "44.4", or "44.4 ± 0.5" (mean, sample standard deviation)."""
    percents = 100 * np.array(values)
    spread = f" ± {percents.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{percents.mean():.1f}{spread}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Formats a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
