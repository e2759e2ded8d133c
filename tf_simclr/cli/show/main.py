"""The command line of `tf-simclr show`."""

import argparse
import sys
from collections.abc import Sequence

from absl import logging

from tf_simclr.cli import help, quiet
from tf_simclr.cli.show import map as map_command
from tf_simclr.cli.show import neighbours, projector, run, views
from tf_simclr.data import errors
from tf_simclr.errors import ConfigError

# Each module has a docstring, add_arguments(parser) and run(args), which prints what it wrote.
SUBCOMMANDS: dict = {
    "run": run,
    "views": views,
    "map": map_command,
    "neighbours": neighbours,
    "projector": projector,
}


def main(argv: Sequence[str], *, program: str = "tf-simclr show") -> None:
    """Runs a subcommand.

    Args:
      argv: the words after "show".
      program: the words before argv, for messages.

    Raises:
      SystemExit: with status 1 or 2 after an error.
    """
    args = make_parser(program).parse_args(help.with_values(argv))
    logging.set_verbosity(logging.ERROR)
    try:
        with quiet.without_chatter(on_terminal=sys.stderr.isatty()), errors.in_one_line():
            SUBCOMMANDS[args.subcommand].run(args)
    except (ConfigError, errors.UndecodableError) as error:
        sys.exit(f"{program}: {error}")


def make_parser(program: str) -> argparse.ArgumentParser:
    """Makes the parser of all subcommands.

    Args:
      program: the words before the subcommand, for messages.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        description="Draws reports on runs, and pictures of data, runs and features.",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(dest="subcommand", required=True)
    for name, module in SUBCOMMANDS.items():
        summary = module.__doc__.split("\n")[0]
        module.add_arguments(
            subparsers.add_parser(
                name,
                help=summary,
                description=module.__doc__,
                allow_abbrev=False,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )
    return parser
