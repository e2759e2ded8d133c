"""The arguments of the subcommands that show images of a run: its weights and its data."""

import argparse
import dataclasses
import os
import sys
from collections.abc import Collection, Mapping, Sequence

from absl import logging

from tf_simclr.cli import arguments, flags, help
from tf_simclr.config import Config, saved_settings
from tf_simclr.errors import ConfigError
from tf_simclr.report.images import embedding_map, run_images, trained_encoder
from tf_simclr.report.images.encoded_images import MAX_ON_MAP
from tf_simclr.report.images.run_images import RunImages

# The settings of the data, and those that the weights do not always show.
SETTINGS = (
    "dataset",
    "data_dir",
    "train_split",
    "eval_split",
    "unlabelled",
    "image_size",
    "image_range",
    "image_key",
    "label_key",
    "max_megapixels",
    "max_pool_padding",
    "input_normalization",
    "ft_proj_selector",
    "eval_batch_size",
)
_OF_THE_DATA = ("data_dir", "image_key", "label_key", "image_range")


@dataclasses.dataclass(frozen=True)
class Opened:
    """What the arguments name.

    Attributes:
      path: a model_dir, or weights.
      config: the settings of the run, with the flags.
      fixed: names of the settings given as flags.
    """

    path: str
    config: Config
    fixed: Collection[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds MODEL_DIR and the flags of its data."""
    parser.add_argument(
        "model_dir",
        type=os.path.expanduser,
        metavar="MODEL_DIR",
        help="directory of a run, or weights in any format of docs/formats.md",
    )
    add_settings(parser)


def add_map(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of a map."""
    parser.add_argument(
        "--method",
        default="auto",
        metavar="|".join(embedding_map.METHODS),
        help="how the map finds two dimensions; umap needs umap-learn (default auto: tsne)",
    )
    parser.add_argument(
        "--max_images",
        type=arguments.positive,
        default=MAX_ON_MAP,
        metavar="N",
        help=f"largest number of images on the map; more are sampled (default {MAX_ON_MAP})",
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the data."""
    help.add_settings(parser, SETTINGS, default="recognized, or that of the run")


def given(args: argparse.Namespace) -> dict[str, str]:
    """Returns {name: text} of the flags of the data that were given."""
    return {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}


def open_arguments(args: argparse.Namespace) -> Opened:
    """Parses MODEL_DIR and the flags of its data (`open_settings`)."""
    return open_settings(args.model_dir.rstrip("/") or "/", given(args))


def open_settings(path: str, given: Mapping[str, str]) -> Opened:
    """Parses the settings, starting from those of the run.

    Args:
      path: a model_dir, or weights.
      given: {name: text} of the flags of the data that were given.

    Raises:
      ConfigError: there are no weights, a flag is wrong, or nothing names a data set.
    """
    logging.set_verbosity(logging.ERROR)
    trained_encoder.check(path)
    saved = saved_settings.find_beside(path)
    if not saved and "dataset" not in given:
        raise ConfigError(
            f"checkpoint {path!r} names no data set, because no settings of a run are beside it: "
            "give --dataset, and --data_dir for a folder"
        )
    # A model_dir without a run, beside weights of other programs, has no settings to start from.
    model_dir = os.path.dirname(saved) if saved else f"{path}.none"
    values = dict(given)
    if saved and given.get("dataset", "") not in ("", saved_settings.read(saved).get("dataset")):
        # The run's other settings of its data do not apply to another data set.
        values = {**dict.fromkeys(_OF_THE_DATA, ""), "unlabelled": "False", **given}
    words = [f"--model_dir={model_dir}", *(f"--{name}={value}" for name, value in values.items())]
    config = flags.parse(["show", *words]).config
    # Which images are shown does not depend on how many labels the run could use.
    return Opened(path, config.replace(label_fraction=1.0, strict_data=False), frozenset(given))


def encode_test(opened: Opened, count: int) -> RunImages:
    """Encodes images of the evaluation split with the trained encoder, and prints the notes.

    Args:
      opened: the run and its data.
      count: largest number of images.
    """
    shown = run_images.open_and_encode(
        opened.path, opened.config, fixed=opened.fixed, with_train=False, count=count
    )
    say(shown.notes)
    return shown


def say(notes: Sequence[str]) -> None:
    """Prints notes on stderr."""
    for note in notes:
        print(f"Note: {note}", file=sys.stderr)
