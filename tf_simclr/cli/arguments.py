"""What the parsers of the subcommands have in common."""

import argparse
from typing import Any

# Abbreviated flags would change their meaning when a flag is added.
PARSER: dict[str, Any] = {
    "allow_abbrev": False,
    "formatter_class": argparse.RawDescriptionHelpFormatter,
}


def make_parser(program: str, description: str | None) -> argparse.ArgumentParser:
    """Makes a parser without arguments.

    Args:
      program: the words before the arguments, for messages.
      description: text of --help, printed as it is.
    """
    return argparse.ArgumentParser(prog=program, description=description, **PARSER)


def positive(text: str) -> int:
    """Converts the text of an argument to a positive integer."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {text!r}")
    return int(text)
