"""Draws images with their nearest neighbors, before and after training.

    tf-simclr show neighbours runs/demo --output=neighbours.png

It searches up to 10,000 training images, by raw pixels, by the encoder before training and by the
trained encoder. Without --query it shows one evaluation image of each class, up to 10. A blue frame
marks neighbors of the image's class.
"""

import argparse
import os

import numpy as np

from tf_simclr import files
from tf_simclr.cli import arguments
from tf_simclr.cli.show import image_flags
from tf_simclr.errors import ConfigError
from tf_simclr.probes import neighbors
from tf_simclr.probes.neighbors import Block
from tf_simclr.report import picture_file
from tf_simclr.report.images import encoded_images, image_sets, neighborhoods, run_images

MAX_QUERIES = 100
MAX_NEIGHBORS = 50  # more do not fit on a picture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the subcommand."""
    image_flags.add_arguments(parser)
    parser.add_argument(
        "--output",
        type=os.path.expanduser,
        default="neighbours.png",
        metavar="FILE",
        help="picture to write: .png, .svg or .pdf (default neighbours.png)",
    )
    parser.add_argument(
        "--query",
        action="append",
        default=[],
        metavar="NAME",
        help="an image to show: the path of a file below data_dir or its end, or 'SPLIT 17'; may "
        "be repeated",
    )
    parser.add_argument(
        "--queries",
        type=arguments.positive,
        metavar="N",
        help="number of random images to show (default none, but 10 without labels)",
    )
    parser.add_argument(
        "--neighbors",
        type=arguments.positive,
        default=neighborhoods.COUNT,
        metavar="K",
        help=f"number of neighbors of each image (default {neighborhoods.COUNT})",
    )


def run(args: argparse.Namespace) -> None:
    """Writes the picture."""
    files.check_output(args.output, picture_file.FORMATS)
    num_queries = len(args.query) + (args.queries or 0)
    if num_queries > MAX_QUERIES:
        raise ConfigError(
            f"queries must be at most {MAX_QUERIES}, with --query counted, got {num_queries}"
        )
    if args.neighbors > MAX_NEIGHBORS:
        raise ConfigError(f"neighbors must be at most {MAX_NEIGHBORS}, got {args.neighbors}")
    opened = image_flags.open_arguments(args)
    shown = run_images.open_and_encode(
        opened.path, opened.config, fixed=opened.fixed, queries=args.query
    )
    image_flags.say(shown.notes)
    if shown.train is None:
        raise ConfigError(
            f"train_split {opened.config.data.train_split} and eval_split {shown.test.split} have "
            "images in common: choose others"
        )
    notes: list[str] = []
    titles = encoded_images.finite_encoders(shown.train, shown.test, notes)
    image_flags.say(notes)
    found = neighborhoods.search(shown.train, shown.test, titles, count=args.neighbors)
    if found is None:
        raise ConfigError(f"split {shown.test.split} has no other image to search: use another")
    num_random = args.queries or (0 if args.query or found.test.has_labels else 10)
    rows = neighborhoods.choose_queries(
        found.test,
        wanted=image_sets.full_names(found.test, args.query),
        num_random=num_random,
        per_class=not (args.query or args.queries),
    )
    figure = neighbors.grid(
        _pixels(found.test.thumbnails[rows]),
        _blocks(found, rows),
        frames=neighbors.BLUE_OR_NONE,
    )
    picture_file.write(figure, args.output)
    print(
        f"Wrote {args.output}: {len(rows)} image{'s' * (len(rows) != 1)} of {shown.dataset}, split "
        f"{shown.test.split}, "
        f"and their nearest {found.num_neighbors} among {found.searched}; "
        f"{shown.encoder.checkpoint}"
    )
    total = f"{len(found.test):,} images"
    for title, share in found.precision().items():
        print(f"  {title}: {100 * share:.1f}% of the neighbors of {total} have the same class")


def _blocks(found: neighborhoods.Found, rows: np.ndarray) -> list[Block]:
    hits, precision = found.hits(rows), found.precision()
    blocks = []
    for title, indices in found.nearest.items():
        text = title
        if precision:
            text += f": {100 * precision[title]:.0f}% of the same class"
        images = _pixels(found.train.thumbnails[indices[rows]])
        blocks.append(Block(text, images, hits[title] if hits else None))
    return blocks


def _pixels(thumbnails: np.ndarray) -> np.ndarray:
    return thumbnails.astype(np.float32) / 255
