"""Measures the exports of tools/export.py: size, largest difference, time to load.

Exports one checkpoint in every format with --check, and loads each export in processes of their
own. There is no baseline.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import report
from tf_simclr.checkpoints import exports

_ROOT = Path(__file__).resolve().parents[1]
_CHECKED = re.compile(
    r"images: .* at most (?P<largest>\S+) \((?P<relative>\S+) of the largest "
    r"value\), .* similarity is (?P<cosine>[\d.]+)\."
)
_WRITTEN = re.compile(r"^Wrote \S+ \((?P<size>[\d.]+ MB)\)", re.MULTILINE)
# The packages are imported first: a program that uses them has done so.
_LOAD = """
import contextlib, importlib, sys, time
from tf_simclr.checkpoints import exports
for name in ("torch", "safetensors.torch", "onnxruntime", "ai_edge_litert.interpreter"):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
start = time.perf_counter()
exports.FORMATS[sys.argv[1]].load(sys.argv[2])
print(time.perf_counter() - start)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this subcommand."""
    parser.add_argument("--checkpoint", required=True, help="weights, in any format")
    parser.add_argument("--images", help="real images (default: the run's evaluation split)")
    parser.add_argument(
        "--repetitions", type=report.positive, default=5, help="times to load each export"
    )


def run(args: argparse.Namespace) -> None:
    """Measures each format and prints a Markdown table."""
    print(", ".join(f"{name}: {value}" for name, value in report.machine().items()), "\n")
    print("| format | size | largest difference | relative | smallest cosine | time to load |")
    print("|---|---|---|---|---|---|")
    variants = [(name, "float32") for name in exports.FORMATS]
    variants += [("tflite", quantize) for quantize in exports.QUANTIZATIONS[1:]]
    with tempfile.TemporaryDirectory() as folder:
        for name, quantize in variants:
            output = os.path.join(folder, f"{name}_{quantize}")
            print(_row(args, name, quantize, output), flush=True)


def _row(args: argparse.Namespace, name: str, quantize: str, output: str) -> str:
    words = [f"--checkpoint={args.checkpoint}", f"--format={name}", f"--output={output}"]
    words += [f"--quantize={quantize}", "--check"]
    words += [f"--images={args.images}"] if args.images else []
    text = _output([str(_ROOT / "tools" / "export.py"), *words])
    checked, written = _CHECKED.search(text), _WRITTEN.search(text)
    assert checked and written, text
    seconds = [float(_output(["-c", _LOAD, name, output])) for _ in range(args.repetitions)]
    title = name if quantize == "float32" else f"{name}, {quantize}"
    cells = [title, written["size"], checked["largest"], checked["relative"], checked["cosine"]]
    return f"| {' | '.join([*cells, f'{statistics.median(seconds):.2f} s'])} |"


def _output(words: list[str]) -> str:
    """Runs Python and returns what it prints."""
    environment = os.environ | {"PYTHONPATH": str(_ROOT)}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return done.stdout
