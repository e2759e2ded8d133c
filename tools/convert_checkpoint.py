"""Converts a checkpoint of the official TF2 SimCLR code into a model_dir of ours.

    python tools/convert_checkpoint.py --source=official/ckpt-1000 --output=converted \\
        --resnet_depth=50 --width_multiplier=1 --sk_ratio=0.0625

writes ckpt-0, config.json, config.gin and saved_model/0: `--checkpoint=converted` starts from its
weights, `--model_dir=converted` goes on training, and the SavedModel answers
f(images, trainable=False).
The step is always 0, whatever the official global_step, because the optimizer starts afresh.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf  # noqa: E402
from absl import logging  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tf_simclr import build  # noqa: E402
from tf_simclr.checkpoints import run_checkpoints, run_dir, weights  # noqa: E402
from tf_simclr.checkpoints.formats import official_tf2, saved_model  # noqa: E402
from tf_simclr.cli import flags, help  # noqa: E402
from tf_simclr.config import Config, saved_settings, settings
from tf_simclr.config.setting import NO_PATTERN
from tf_simclr.errors import ConfigError, one_line
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

# Where a variable differs, these flags decide its shape; the first pattern that matches counts.
_FLAGS_BY_PATH = (
    (r"base_model/stem/", ("image_size", "width_multiplier", "sk_ratio")),
    (r"base_model/.*/se/", ("se_ratio", "width_multiplier")),
    (r"base_model/.*/sk/", ("sk_ratio", "width_multiplier")),
    (r"base_model/", ("resnet_depth", "width_multiplier", "sk_ratio", "se_ratio")),
    (r"head_contrastive/", ("num_proj_layers", "proj_out_dim", "proj_head_mode")),
    (r"head_supervised/", ("ft_proj_selector", "proj_head_mode", "proj_out_dim")),
)


class Converted(NamedTuple):
    """What `convert` found.

    Attributes:
      num_variables: of the model.
      num_classes: of the supervised head; None where there is none.
      official_step: the official global_step; 0 where the source has none.
    """

    num_variables: int
    num_classes: int | None
    official_step: int


def convert(source: str, output: str, config: Config) -> Converted:
    """Writes output/ckpt-0, output/config.json, output/config.gin and output/saved_model/0.

    Args:
      source: prefix of an official TF2 object checkpoint, or the directory that it lies in.
      output: directory to be made; everything in it appears at once, or nothing does.
      config: checked settings; those of the model must be the ones it was trained with.

    Raises:
      ConfigError: one line that names the flag and the way out; nothing is written then.
    """
    output = output.rstrip("/")
    for flag, path in (("source", source), ("output", output)):
        if not NO_PATTERN.holds(path):
            raise ConfigError(f"{flag} must be {NO_PATTERN.text}, got {path!r}")
    _check_output(output)
    stored, official_step = _read(source)
    bias = stored.shapes.get(f"{weights.SUPERVISED_HEAD}dense/bias")
    num_classes = bias[0] if bias else None
    if num_classes is None and config.training.train_mode == "finetune":
        raise ConfigError(
            f"train_mode must be pretrain, got finetune: source {source!r} has no supervised head"
        )
    config = config.replace(lineareval_while_pretraining=num_classes is not None)
    model = build.make_model(config, num_classes)
    variables = model.variables_by_path()
    _check_fit(source, stored.shapes, {path: tuple(v.shape) for path, v in variables.items()})
    for path, variable in variables.items():
        variable.assign(stored.read(path))
    _write(output, model, config)
    return Converted(len(variables), num_classes, official_step)


def _check_output(output: str):
    if tf.io.gfile.exists(output) and (
        not tf.io.gfile.isdir(output) or tf.io.gfile.listdir(output)
    ):
        raise ConfigError(f"output {output!r} exists and is not an empty directory; name another")


def _read(source: str) -> tuple[weights.Stored, int]:
    """The variables, of which none is read yet, and the global step."""
    prefix = _prefix(source)
    try:
        reader = tf.train.load_checkpoint(prefix)
        keys = reader.get_variable_to_shape_map()
        _check_official(source, keys)
        step_key = "global_step" + official_tf2.SUFFIX
        step = int(reader.get_tensor(step_key)) if keys.get(step_key) == [] else 0
        return weights.Stored(prefix), step
    except ConfigError:
        raise
    except weights.READ_ERRORS as error:
        raise ConfigError(
            f"source {source!r} cannot be read: {one_line(error)}; is the file whole?"
        ) from error


def _prefix(source: str) -> str:
    for directory in (source, os.path.dirname(os.path.dirname(source))):
        if tf.io.gfile.exists(os.path.join(directory, "saved_model.pb")):
            raise ConfigError(
                f"source {source!r} is a SavedModel, which is not supported yet; "
                "name a TF2 checkpoint such as DIR/ckpt-1000"
            )
    if tf.io.gfile.exists(source + ".index"):
        return source
    if not tf.io.gfile.isdir(source):
        raise ConfigError(
            f"source {source!r} does not exist; name a checkpoint's prefix such as "
            "DIR/ckpt-1000, or the directory that it lies in"
        )
    if latest := tf.train.latest_checkpoint(source):
        return latest
    # Released checkpoints often come without the file that says which is the latest.
    prefixes = sorted(
        path.removesuffix(".index") for path in tf.io.gfile.glob(os.path.join(source, "*.index"))
    )
    if len(prefixes) == 1:
        return prefixes[0]
    if not prefixes:
        raise ConfigError(
            f"source {source!r} is a directory without a checkpoint; name one that "
            "holds ckpt-1000.index or the like"
        )
    raise ConfigError(
        f"source {source!r} holds {len(prefixes)} checkpoints; name one of them, "
        f"e.g. {prefixes[-1]}"
    )


def _check_official(source: str, keys):
    if official_tf2.is_official(keys):
        return
    if any(key.startswith("model/base_model/") for key in keys):
        reason = "is one of ours already; use it as --checkpoint"
    elif weights.OBJECT_GRAPH not in keys:
        reason = "is a TF1 checkpoint, which is not supported yet; name one of the TF2 code"
    else:
        some = ", ".join(sorted(key for key in keys if key != weights.OBJECT_GRAPH)[:3])
        reason = (
            f"is not one of the official TF2 code (its variables are called {some}); name "
            f"one whose variables are called {official_tf2.ENCODER}..."
        )
    raise ConfigError(f"source {source!r} {reason}")


def _check_fit(source: str, stored: dict[str, tuple], shapes: dict[str, tuple]):
    """Raises ConfigError at the first variable that differs, in the order of the model."""
    for path in [*shapes, *sorted(stored.keys() - shapes.keys())]:
        there = stored.get(path, "absent")
        here = shapes.get(path, "absent")
        if there != here:
            names = next(names for pattern, names in _FLAGS_BY_PATH if re.match(pattern, path))
            raise ConfigError(
                f"source {source!r} does not fit the model flags: {path} is {there} there and "
                f"{here} here; look at {', '.join(f'--{name}' for name in names)}"
            )


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
            run_dir.write_text(os.path.join(unfinished, name), text)
        saved_model.export(model, os.path.join(unfinished, "saved_model"), 0, keep=1)
        _remove(output)
        tf.io.gfile.rename(unfinished, output)
    except (tf.errors.OpError, OSError) as error:
        raise ConfigError(
            f"output {output!r} cannot be written: {one_line(error)}; name another directory"
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
        help="directory to be made",
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
        found = convert(args["source"], args["output"], parse_settings(given))
    except ConfigError as error:
        sys.exit(f"convert_checkpoint.py: {error}")
    classes = "no supervised head" if found.num_classes is None else f"{found.num_classes} classes"
    print(
        f"Wrote {args['output']}: ckpt-0, config.gin and saved_model/0; "
        f"{found.num_variables} variables, {classes}; "
        f"step 0 (global_step was {found.official_step})."
    )


def parse_settings(given: Sequence[str]) -> Config:
    """Settings written as on run.py's command line, over the defaults of config.py.

    Raises:
      ConfigError: one of them is wrong, or their combination is.
    """
    # The empty binding keeps `parse` from starting at the demonstration's settings. Nothing random
    # survives the conversion, but a model is not built without a seed.
    return flags.parse(["", "--gin_bindings=", "--seed=0", *given]).config


if __name__ == "__main__":
    main()
