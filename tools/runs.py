"""For tools that make series of runs: each in a folder of its own, made once."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
TOP_1 = "eval/label_top_1_accuracy"


def result(model_dir: Path, arguments: Sequence[str], *, file: str = "result.json") -> dict:
    """What a run of run.py leaves in its result file.

    A run that has left it with the same arguments is not made again; one that was interrupted goes
    on from its checkpoint.

    Args:
      model_dir: of the run; its output goes to the file run.log there.
      arguments: for run.py.
      file: name of the result file, which the run writes last.

    Raises:
      SystemExit: the run failed; its last lines are in the message.
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
        sys.exit(f"{model_dir}: run.py ended with {status}:\n{last}\nThe same command goes on.")
    done.write_text(json.dumps(list(arguments)))
    return json.loads((model_dir / file).read_text())


def percent(values: Sequence[float]) -> str:
    """Shares in per cent: "44.4" of one, "44.4 ± 0.5" (sample standard deviation) of several."""
    values = 100 * np.array(values)
    spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
