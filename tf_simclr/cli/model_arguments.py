"""The arguments of `tf-simclr embed` and `search` that name a model and its settings."""

import argparse
import os

from tf_simclr import files
from tf_simclr.cli import flags, help
from tf_simclr.config import Config

# Settings that change embeddings or the memory that they take.
SETTINGS = (
    "image_size",
    "image_range",
    "max_megapixels",
    "max_pool_padding",
    "input_normalization",
    "precision",
    "eval_batch_size",
)


def add(parser: argparse.ArgumentParser) -> None:
    """Adds --checkpoint and SETTINGS."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="PATH",
        help="a run, or weights in any format of docs/formats.md",
    )
    help.add_settings(parser, SETTINGS, default="that of the run, otherwise {}")


def parse(args: argparse.Namespace) -> tuple[Config, frozenset[str]]:
    """Parses the settings of the model as mode=predict does, starting from those of its run.

    Returns:
      The settings, and the names of those that were given.
    """
    given = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    config = flags.parse(
        [
            "embed",
            "--mode=predict",
            f"--checkpoint={local_path(args.checkpoint)}",
            "--images=.",  # mode=predict must have both, and nothing here reads them
            "--output=unused.npy",
            *(f"--{name}={value}" for name, value in given.items()),
        ]
    ).config
    return config, frozenset(given)


def local_path(path: str) -> str:
    """Replaces ~ at the start of a path on this machine."""
    return path if files.is_url(path) else os.path.expanduser(path)
