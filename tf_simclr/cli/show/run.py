"""Writes a report on one or several runs: one HTML file that needs no network.

    tf-simclr show run runs/demo
    tf-simclr show run runs/a runs/b runs/c --output=comparison.html

The report on one run says whether it is learning and whether it has collapsed. It shows its
curves, a map of the evaluation images, nearest neighbors before and after training, and confusions.
The report on several runs draws their curves in the same charts and lists the settings that differ.
It only reads the files of the run and the data set, so the run may go on meanwhile.
"""

import argparse
import os
import sys

from tf_simclr import files
from tf_simclr.cli.show import image_flags
from tf_simclr.data import errors
from tf_simclr.errors import ConfigError
from tf_simclr.report import run_report
from tf_simclr.report.content import Images
from tf_simclr.report.images import embedding_map
from tf_simclr.report.images.encoded_images import Options
from tf_simclr.report.run_files import run_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the subcommand."""
    parser.add_argument(
        "model_dirs",
        type=os.path.expanduser,
        nargs="+",
        metavar="MODEL_DIR",
        help="directory of a run",
    )
    parser.add_argument(
        "--output",
        type=os.path.expanduser,
        metavar="FILE",
        help=f"HTML file to write (default MODEL_DIR/{run_report.NAME}, of several runs "
        f"{run_report.NAME} in the current folder)",
    )
    parser.add_argument(
        "--no_images",
        action="store_true",
        help="only curves and settings, without map, neighbors and confusions: takes seconds",
    )
    image_flags.add_map(parser)
    parser.add_argument(
        "--query",
        action="append",
        default=[],
        metavar="NAME",
        help="name of an image whose neighbors to show; may be repeated",
    )
    image_flags.add_settings(parser)


def run(args: argparse.Namespace) -> None:
    """Writes the report."""
    embedding_map.check_method(args.method)
    model_dirs = [path.rstrip("/") or "/" for path in args.model_dirs]
    output = args.output or run_report.NAME
    if not args.output and len(model_dirs) == 1:
        output = os.path.join(model_dirs[0], run_report.NAME)
    runs = run_report.read(model_dirs)
    files.check_output(output, (".html",))
    _check_used(args)
    images: Images | None = None
    notes: list[str] = []
    if len(runs) == 1 and not args.no_images:
        images, notes = _images(args, runs[0])
    elif len(runs) == 1:
        notes.append("Map, neighbors and confusions are left out (--no_images).")
    else:
        notes.append("The report on a single run also has a map, neighbors and confusions.")
    for note in notes:
        print(f"Note: {note}", file=sys.stderr)
    run_report.write(output, run_report.make(runs, images=images, notes=notes))
    print(f"Report: {output} ({os.path.getsize(output) / 1e6:.1f} MB)")


def _check_used(args: argparse.Namespace) -> None:
    """Raises ConfigError if an argument would have no effect."""
    given = [*image_flags.given(args), *["query"] * bool(args.query)]
    if given and (args.no_images or len(args.model_dirs) > 1):
        raise ConfigError(
            f"{given[0]} must be unset with --no_images or several runs: it is for images"
        )


def _images(args: argparse.Namespace, shown: run_folder.Run) -> tuple[Images | None, list[str]]:
    """Encodes images of the run's data set. A run without a checkpoint or data has a note instead.

    Raises:
      ConfigError: an argument is wrong.
    """
    from tf_simclr.report.images import run_images  # imports TensorFlow

    options = Options(max_on_map=args.max_images, method=args.method, queries=tuple(args.query))
    given = image_flags.given(args)
    try:
        opened = image_flags.open_settings(shown.model_dir, given)
        return run_images.summarize(opened.path, opened.config, fixed=opened.fixed, options=options)
    except (ConfigError, errors.UndecodableError) as error:
        if given or args.query:
            raise
        return None, [f"Map, neighbors and confusions are left out: {error}"]
