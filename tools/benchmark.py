"""Measures us against a baseline, side by side in one run, and prints a Markdown table.

    python tools/benchmark.py communication
    python tools/benchmark.py communication --predict
    python tools/benchmark.py input --data_dir=DIR
    python tools/benchmark.py loss --alone=65536
    python tools/benchmark.py step --network=resnet50
    python tools/benchmark.py memory
    python tools/benchmark.py augment
    python tools/benchmark.py startup --baseline=DIR

Each subcommand says what its baseline is: python tools/benchmark.py SUBCOMMAND --help. A ratio is
ours over the baseline's. Times are medians of calls in which the two sides take turns.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import augment, communication, input, loss, memory, startup, step  # noqa: E402

# A module has a docstring, add_arguments(parser) and run(args).
SUBCOMMANDS = {
    "input": input,
    "augment": augment,
    "loss": loss,
    "step": step,
    "memory": memory,
    "communication": communication,
    "startup": startup,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(metavar="SUBCOMMAND", required=True)
    for name, module in SUBCOMMANDS.items():
        command = commands.add_parser(
            name,
            help=module.__doc__.split("\n")[0],
            description=module.__doc__,
            formatter_class=raw,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    args.run(args)


if __name__ == "__main__":
    main()
