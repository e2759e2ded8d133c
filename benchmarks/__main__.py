"""Compares this code with a baseline and prints a Markdown table.

    python -m benchmarks communication
    python -m benchmarks communication --predict
    python -m benchmarks scaling_model --batch=4096,65536
    python -m benchmarks input --data_dir=DIR
    python -m benchmarks loss --alone=65536
    python -m benchmarks step --network=resnet50
    python -m benchmarks memory
    python -m benchmarks augment
    python -m benchmarks monitor --data_dir=DIR
    python -m benchmarks probes
    python -m benchmarks end_to_end --vs=DIR
    python -m benchmarks formats --checkpoint=RUN
    python -m benchmarks replicas
    python -m benchmarks kills --work_dir=DIR -- --gin_file=gin/demo.gin

Run it in the root of a checkout. `python -m benchmarks SUBCOMMAND --help` describes the baseline. A
ratio is our value divided by the baseline's. Times are medians over calls in which the two sides
take turns. The last two subcommands compare results of our own runs and time nothing.
"""

import argparse
import os
import sys
from collections.abc import Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks import (  # noqa: E402
    augment,
    communication,
    end_to_end,
    formats,
    input,
    kill_series,
    loss,
    memory,
    monitor,
    probes,
    replica_table,
    scaling_model,
    step,
)

# Each module has a docstring, add_arguments(parser) and run(args), which may return an exit code.
SUBCOMMANDS = {
    "input": input,
    "augment": augment,
    "loss": loss,
    "step": step,
    "memory": memory,
    "communication": communication,
    "scaling_model": scaling_model,
    "monitor": monitor,
    "probes": probes,
    "end_to_end": end_to_end,
    "formats": formats,
    "replicas": replica_table,
    "kills": kill_series,
}


def main(argv: Sequence[str] | None = None) -> int | None:
    """Runs the command line and returns the exit code."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=raw
    )
    commands = parser.add_subparsers(metavar="SUBCOMMAND", required=True)
    for name, module in SUBCOMMANDS.items():
        description = module.__doc__ or ""
        command = commands.add_parser(
            name,
            help=description.split("\n")[0],
            description=description,
            formatter_class=raw,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
