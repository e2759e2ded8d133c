"""Converts a checkpoint of the official TF2 SimCLR code into a model_dir.

    python tools/convert_checkpoint.py --source=official/ckpt-1000 --output=converted \\
        --resnet_depth=50 --width_multiplier=1 --sk_ratio=0.0625

writes ckpt-0, config.json, config.gin and saved_model/0. `--checkpoint=converted` starts a run from
its weights, `--model_dir=converted` continues training, and the SavedModel is called as
f(images, trainable=False). The step is always 0, not the official global_step, because the state of
the official optimizer is not converted.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf  # noqa: E402
from absl import logging  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from conversion import official_source  # noqa: E402
from tf_simclr import files  # noqa: E402
from tf_simclr.checkpoints import run_checkpoints  # noqa: E402
from tf_simclr.checkpoints.formats import saved_model  # noqa: E402
from tf_simclr.cli import flags, help  # noqa: E402
from tf_simclr.config import Config, saved_settings, settings
from tf_simclr.config.setting import NO_PATTERN
from tf_simclr.errors import ConfigError, one_line
from tf_simclr.models import from_config
from tf_simclr.models.simclr import SimCLR  # noqa: E402
from tf_simclr.optim import policy  # noqa: E402

FLAGS = (
    "resnet_depth",
    "width_multiplier",
    "image_size",
    "sk_ratio",
    "se_ratio",
    "proj_head_mode",
    "num_proj_layers",
    "proj_out_dim",
    "train_mode",
    "ft_proj_selector",
    "fine_tune_after_block",
    "optimizer",
)


class Converted(NamedTuple):
    """Describes a converted checkpoint.

    Attributes:
      num_variables: number of the model's variables.
      num_classes: classes of the supervised head; None if there is no such head.
      official_step: the official global_step; 0 if the source has none.
    """

    num_variables: int
    num_classes: int | None
    official_step: int


def convert(source: str, output: str, config: Config) -> Converted:
    """Writes output/ckpt-0, output/config.json, output/config.gin and output/saved_model/0.

    Args:
      source: prefix of an official TF2 object checkpoint, or the directory that holds it.
      output: new directory; all files in it appear at once.
      config: checked settings; the model settings must be as in the training.

    Raises:
      ConfigError: a flag does not fit; nothing is written.
    """
    output = output.rstrip("/")
    for flag, path in (("source", source), ("output", output)):
        if not NO_PATTERN.holds(path):
            raise ConfigError(f"{flag} must be {NO_PATTERN.text}, got {path!r}")
    _check_output(output)
    stored, official_step = official_source.read(source)
    num_classes = stored.num_classes
    if num_classes is None and config.training.train_mode == "finetune":
        raise ConfigError(
            f"train_mode must be pretrain, got finetune: source {source!r} has no supervised head"
        )
    config = config.replace(lineareval_while_pretraining=num_classes is not None)
    model = from_config.make_model(config, num_classes)
    variables = model.variables_by_path()
    official_source.check_fit(
        source, stored.shapes, {path: tuple(v.shape) for path, v in variables.items()}
    )
    for path, variable in variables.items():
        variable.assign(stored.read(path))
    _write(output, model, config)
    return Converted(len(variables), num_classes, official_step)


def _check_output(output: str):
    if tf.io.gfile.exists(output) and (
        not tf.io.gfile.isdir(output) or tf.io.gfile.listdir(output)
    ):
        raise ConfigError(f"output {output!r} exists and is not an empty directory; use another")


def _write(output: str, model: SimCLR, config: Config):
    optimizer = policy.make_optimizer(
        model,
        config.optimizer.optimizer,
        config.optimizer.learning_rate,
        momentum=config.optimizer.momentum,
        weight_decay=config.optimizer.weight_decay,
    )
    unfinished = output + ".unfinished"
    try:
        _remove(unfinished)
        tf.io.gfile.makedirs(unfinished)
        run_checkpoints.Checkpointer(model, optimizer, unfinished, max_to_keep=1).save()
        for name, text in (
            (saved_settings.JSON, saved_settings.to_json(config)),
            (saved_settings.GIN, saved_settings.to_gin(config)),
        ):
            files.write_text(os.path.join(unfinished, name), text)
        saved_model.export(model, os.path.join(unfinished, "saved_model"), 0, keep=1)
        _remove(output)
        tf.io.gfile.rename(unfinished, output)
    except (tf.errors.OpError, OSError) as error:
        raise ConfigError(
            f"output {output!r} cannot be written: {one_line(error)}; use another directory"
        ) from error
    finally:
        _remove(unfinished)


def _remove(directory: str):
    if tf.io.gfile.exists(directory):
        tf.io.gfile.rmtree(directory)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--source",
        type=os.path.expanduser,
        required=True,
        metavar="PATH",
        help="prefix of the official checkpoint, or its directory",
    )
    parser.add_argument(
        "--output",
        type=os.path.expanduser,
        required=True,
        metavar="DIR",
        help="new directory",
    )
    for name in FLAGS:
        spec = settings()[name]
        parser.add_argument(
            f"--{name}",
            metavar=help.type_name(spec),
            help=f"{spec.help} (default {spec.default})".replace("%", "%%"),
        )
    args = vars(parser.parse_args(argv))
    logging.set_verbosity(logging.ERROR)
    given = [f"--{name}={args[name]}" for name in FLAGS if args[name] is not None]
    try:
        converted = convert(args["source"], args["output"], parse_settings(given))
    except ConfigError as error:
        sys.exit(f"convert_checkpoint.py: {error}")
    classes = (
        "no supervised head"
        if converted.num_classes is None
        else f"{converted.num_classes} classes"
    )
    print(
        f"Wrote {args['output']}: ckpt-0, config.gin and saved_model/0; "
        f"{converted.num_variables} variables, {classes}; "
        f"step 0 (global_step was {converted.official_step})."
    )


def parse_settings(given: Sequence[str]) -> Config:
    """Parses flags of run.py, which override the defaults of config.py.

    Raises:
      ConfigError: a setting is wrong, or settings contradict each other.
    """
    # The empty binding keeps `parse` from using the demo's settings. Building a model needs a seed,
    # although the conversion replaces all random values.
    return flags.parse(["", "--gin_bindings=", "--seed=0", *given]).config


if __name__ == "__main__":
    main()
