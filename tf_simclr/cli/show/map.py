"""Draws a two-dimensional map of embeddings.

    tf-simclr show map runs/demo --output=map.png

The images are those of the evaluation split. Features go through 50 principal components to t-SNE.
Colors are classes; without labels they are clusters. Colors are Okabe and Ito's for 8 classes; more
repeat them with other markers, up to 40.
"""

import argparse
import os

from tf_simclr import files
from tf_simclr.cli.show import image_flags
from tf_simclr.probes.features import PRETRAINED
from tf_simclr.report import picture_file
from tf_simclr.report.images import embedding_map, encoded_images, map_figure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the subcommand."""
    image_flags.add_arguments(parser)
    parser.add_argument(
        "--output",
        type=os.path.expanduser,
        default="map.png",
        metavar="FILE",
        help="picture to write: .png, .svg or .pdf (default map.png)",
    )
    image_flags.add_map(parser)
    parser.add_argument(
        "--thumbnails", action="store_true", help="draw the images instead of points"
    )
    parser.add_argument("--title", help="title of the picture (default none)")


def run(args: argparse.Namespace) -> None:
    """Writes the picture."""
    embedding_map.check_method(args.method)
    files.check_output(args.output, picture_file.FORMATS)
    opened = image_flags.open_arguments(args)
    shown = image_flags.encode_test(opened, args.max_images)
    features = encoded_images.finite_matrix(shown.test, PRETRAINED)
    coordinates, method = embedding_map.layout(features, method=args.method)
    groups, names, grouped_by = encoded_images.group(shown.test, shown.class_names)
    picture = map_figure.figure(
        coordinates,
        groups,
        names,
        images=shown.test.thumbnails if args.thumbnails else None,
        title=args.title,
    )
    picture_file.write(picture, args.output)
    print(
        f"Wrote {args.output}: {shown.dataset}, split {shown.test.split}, "
        f"{shown.test.describe()}, {method}, colored by {grouped_by}; {shown.encoder.checkpoint}"
    )
