"""Writes embeddings, images and names for TensorBoard's projector.

    tf-simclr show projector runs/demo

The files are in MODEL_DIR/projector, or in --output. They replace those of an earlier call.
"""

import argparse
import os
import shlex

from tf_simclr.cli import arguments
from tf_simclr.cli.show import image_flags
from tf_simclr.probes.features import PRETRAINED
from tf_simclr.report.images import encoded_images, projector
from tf_simclr.report.images.encoded_images import MAX_ON_MAP


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the subcommand."""
    image_flags.add_arguments(parser)
    parser.add_argument(
        "--output",
        type=os.path.expanduser,
        metavar="DIR",
        help="directory to write (default MODEL_DIR/projector)",
    )
    parser.add_argument(
        "--max_images",
        type=arguments.positive,
        default=MAX_ON_MAP,
        metavar="N",
        help=f"largest number of images; more are sampled at random (default {MAX_ON_MAP})",
    )


def run(args: argparse.Namespace) -> None:
    """Writes the directory and prints the command that opens it."""
    opened = image_flags.open_arguments(args)
    output = (args.output or default_output(opened.path)).rstrip("/")
    projector.check(output)
    shown = image_flags.encode_test(opened, args.max_images)
    features = encoded_images.finite_matrix(shown.test, PRETRAINED)
    groups, names, grouped_by = encoded_images.group(shown.test, shown.class_names)
    columns = {
        "name": shown.test.names,
        grouped_by: [names[i] if i >= 0 else "" for i in groups],
    }
    projector.write(output, features, columns, shown.test.thumbnails)
    print(f"Wrote {output}: {shown.dataset}, split {shown.test.split}, {shown.test.describe()}")
    print(f"Open it with: tensorboard --logdir={shlex.quote(output)}")


def default_output(path: str) -> str:
    """Returns the directory to write: in a directory of weights, or beside a file of weights."""
    return os.path.join(path if os.path.isdir(path) else os.path.dirname(path), "projector")
