"""The command line of `tf-simclr show`."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from absl import logging

from tf_simclr.cli import arguments, help, quiet
from tf_simclr.errors import ConfigError

# Modules beside this one. Each has a docstring, add_arguments(parser) and run(args), which prints
# what it wrote.
SUBCOMMANDS = ("run", "views", "map", "neighbours", "projector")


def main(argv: Sequence[str], *, program: str = "tf-simclr show") -> None:
    """Runs a subcommand.

    Args:
      argv: the words after "show".
      program: the words before argv, for messages.

    Raises:
      SystemExit: with status 1 or 2 after an error.
    """
    logging.set_verbosity(logging.ERROR)
    with quiet.without_chatter():
        with quiet.without_chatter(on_terminal=True):
            from tf_simclr.data import errors  # loads TensorFlow, and so do the subcommands

            modules = _modules()
        args = make_parser(program).parse_args(help.with_values(argv))
        try:
            with errors.in_one_line():
                modules[args.subcommand].run(args)
        except (ConfigError, errors.UndecodableError) as error:
            sys.exit(f"{program}: {error}")


def _modules() -> dict[str, Any]:
    """Imports the modules of the subcommands, which takes seconds."""
    return {name: importlib.import_module(f"tf_simclr.cli.show.{name}") for name in SUBCOMMANDS}


def make_parser(program: str) -> argparse.ArgumentParser:
    """Makes the parser of all subcommands.

    Args:
      program: the words before the subcommand, for messages.
    """
    parser = arguments.make_parser(
        program, "Draws reports on runs, and pictures of data, runs and features."
    )
    subparsers = parser.add_subparsers(dest="subcommand", required=True)
    for name, module in _modules().items():
        summary = module.__doc__.split("\n")[0]
        module.add_arguments(
            subparsers.add_parser(
                name,
                help=summary,
                description=module.__doc__,
                **arguments.PARSER,
            )
        )
    return parser
