"""Draws training images with their views, as training sees them.

    tf-simclr show views --gin_file=cifar10_resnet18 --output=views.png
    tf-simclr show views --model_dir=runs/first --explain --image=3

The settings of the views are flags of run.py, --gin_file, or those of the run in --model_dir.
--explain draws one image's way to its views instead: crop, flip, color jitter, grayscale, blur,
with the factors that were drawn. --image chooses the image: a file, or the K-th of the sheet.

The order of the images is that of a run whose batch is this sheet: a run with a larger batch starts
with other images, because its shuffle buffer is larger. Everything is computed on the CPU; a GPU
draws the same random numbers.
"""

import argparse
import os

from tf_simclr import files
from tf_simclr.cli import flags, gin_files, help
from tf_simclr.config import Config, saved_settings, settings
from tf_simclr.config.setting import NO_PATTERN
from tf_simclr.errors import ConfigError
from tf_simclr.report import picture_file

_MAX_IMAGES = 64
_SECTIONS = ("Data", "Augment")
_OTHER_FLAGS = ("train_mode", "teacher", "seed", "train_batch_size", "model_dir")
_DEFAULT = "that of the run or gin file, else {}"


def setting_names() -> list[str]:
    """Returns the names of the settings that the subcommand takes as flags."""
    of_sections = [name for name, spec in settings().items() if spec.section in _SECTIONS]
    return [*of_sections, *_OTHER_FLAGS]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `show views`."""
    parser.add_argument(
        "--output",
        type=os.path.expanduser,
        default="views.png",
        metavar="FILE",
        help="file to write: .png, .svg or .pdf (default views.png)",
    )
    parser.add_argument(
        "--images", default="8", metavar="N", help="images on the sheet, 1 to 64 (default 8)"
    )
    parser.add_argument(
        "--explain", action="store_true", help="draw the steps from one image to its views"
    )
    parser.add_argument(
        "--image",
        type=os.path.expanduser,
        metavar="K|FILE",
        help="the image to explain: the K-th of the sheet, or an image file (default 1)",
    )
    for name, text in gin_files.FLAGS.items():
        parser.add_argument(
            f"--{name}", action="append", default=[], metavar="STR", help=text.replace("%", "%%")
        )
    help.add_settings(parser, setting_names(), default=_DEFAULT)


def run(args: argparse.Namespace) -> None:
    """Draws the sheet or the steps, and prints the file's name.

    Raises:
      ConfigError: an argument is wrong, or the images cannot be read. Nothing is written then.
    """
    count = _check_arguments(args)
    config = _config(args)
    from tf_simclr.modes import show_views  # loads TensorFlow, so only after the checks

    content = show_views.draw(
        config,
        count=count,
        explained=(args.image or "1") if args.explain else None,
        suffix=picture_file.suffix_of(args.output),
    )
    picture_file.write_content(content, args.output)
    print(f"Wrote {args.output}.")


def _check_arguments(args: argparse.Namespace) -> int:
    """Returns the number of images.

    Raises:
      ConfigError: an argument is wrong.
    """
    files.check_output(args.output, picture_file.FORMATS)
    if not args.images.isdecimal() or not 1 <= int(args.images) <= _MAX_IMAGES:
        raise ConfigError(f"images must be a number from 1 to {_MAX_IMAGES}, got {args.images!r}")
    count = int(args.images)
    if args.image is None:
        return count
    if not args.explain:
        raise ConfigError(f"image must be unset without --explain, got {args.image!r}")
    if args.image.isdecimal():
        if not 1 <= int(args.image) <= count:
            raise ConfigError(
                f"image must be from 1 to {count}, the images on the sheet, got {args.image}: "
                f"raise --images, up to {_MAX_IMAGES}"
            )
    elif not os.path.isfile(args.image):
        raise ConfigError(f"image {args.image!r} is not a file: give a file, or a number such as 3")
    return count


def _config(args: argparse.Namespace) -> Config:
    """Returns the settings: flags, then gin files or the run in --model_dir, then defaults."""
    if args.model_dir and not NO_PATTERN.holds(args.model_dir):
        raise ConfigError(f"model_dir must be {NO_PATTERN.text}, got {args.model_dir!r}")
    words = [
        f"--{name}={value}"
        for name in setting_names()
        if (value := getattr(args, name)) is not None
    ]
    for name in gin_files.FLAGS:
        words += [f"--{name}={value}" for value in getattr(args, name)]
    parsed = flags.parse(["show views", *words])
    is_saved = any(map(saved_settings.is_saved_settings, parsed.base_files))
    if args.model_dir and not is_saved and not args.gin_file:
        raise ConfigError(
            f"model_dir {args.model_dir!r} holds no run (config.json): name the directory of a "
            "run, or give --gin_file or --dataset without it"
        )
    return parsed.config
