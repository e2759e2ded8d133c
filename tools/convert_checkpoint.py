"""Converts weights in any format that can be read into a model_dir of this package.

    python tools/convert_checkpoint.py --source=official/ckpt-1000 --output=converted

docs/formats.md lists the formats. The network is recognized from the file, so model flags are only
needed for what its variables do not show, such as --ft_proj_selector. docs/released_weights.md says
which files have been released, and when to give --rescale_v1.

The tool writes ckpt-0, about.json, config.json, config.gin and saved_model/0.
`--checkpoint=converted` starts a run from the weights, `--model_dir=converted` continues training,
and the SavedModel is called as f(images, trainable=False). The step is 0, because the state of an
optimizer is not converted.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import logging  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tf_simclr import files  # noqa: E402
from tf_simclr.checkpoints import (  # noqa: E402
    about_file,
    loading_code,
    model_card,
    new_directory,
    recognition,
    recognized_model,
    rescale,
    run_checkpoints,
    weights,
)
from tf_simclr.checkpoints.formats.tensorflow import saved_model  # noqa: E402
from tf_simclr.checkpoints.model_card import Card
from tf_simclr.checkpoints.recognized_model import RecognizedModel
from tf_simclr.cli import flags, help  # noqa: E402
from tf_simclr.config import Config, saved_settings
from tf_simclr.config.setting import NO_PATTERN
from tf_simclr.errors import ConfigError
from tf_simclr.optim import policy  # noqa: E402

FLAGS = (
    "resnet_depth",
    "width_multiplier",
    "image_size",
    "sk_ratio",
    "se_ratio",
    "max_pool_padding",
    "input_normalization",
    "proj_head_mode",
    "num_proj_layers",
    "proj_out_dim",
    "train_mode",
    "ft_proj_selector",
    "fine_tune_after_block",
    "optimizer",
)


class Converted(NamedTuple):
    """Describes converted weights.

    Attributes:
      num_variables: number of the model's variables.
      num_classes: classes of the supervised head; None if there is no such head.
      recognized: what the source is, and which network its weights belong to.
      notes: what the user must know about the conversion.
    """

    num_variables: int
    num_classes: int | None
    recognized: str
    notes: tuple[str, ...]


def convert(
    source: str,
    output: str,
    config: Config,
    *,
    fixed: Sequence[str] = (),
    rescale_v1: bool = False,
    prefix: str = "",
) -> Converted:
    """Writes a model_dir with the weights of a file.

    Args:
      source: the weights, in any format (`weights_file.find`).
      output: new directory; all files in it appear at once.
      config: checked settings. Those that do not fit the weights change (`recognition.fit`).
      fixed: names of the settings that must keep their values.
      prefix: prefix of the network to convert, in a PyTorch file that contains several.
      rescale_v1: divide the kernels of SimCLRv1's released weights (`rescale.rescale_v1`).

    Raises:
      ConfigError: the weights cannot be read, or a flag does not fit; nothing is written.
    """
    output = output.rstrip("/")
    for flag, path in (("source", source), ("output", output)):
        if not NO_PATTERN.holds(path):
            raise ConfigError(f"{flag} must be {NO_PATTERN.text}, got {path!r}")
    new_directory.check(output)
    stored = weights.open_weights(source, prefix=prefix)
    if rescale_v1:
        stored = rescale.rescale_v1(stored, path=source)
    num_classes = stored.num_classes
    if num_classes is None and config.training.train_mode == "finetune":
        raise ConfigError(
            f"train_mode must be pretrain, got finetune: source {source!r} has no supervised head"
        )
    recognized = recognized_model.build(stored, source, config, fixed=fixed)
    _write(output, recognized, source)
    num_variables = len(recognized.model.variables_by_path())
    return Converted(num_variables, num_classes, recognized.describe(), stored.notes)


def _write(output: str, recognized: RecognizedModel, source: str):
    model, num_classes = recognized.model, recognized.stored.num_classes
    config = recognized.config.replace(lineareval_while_pretraining=num_classes is not None)
    optimizer = policy.make_optimizer(
        model,
        config.optimizer.optimizer,
        config.optimizer.learning_rate,
        momentum=config.optimizer.momentum,
        weight_decay=config.optimizer.weight_decay,
    )
    about = about_file.content(
        config,
        recognized.about.class_names,
        source=recognized.about.source or recognized.stored.kind,
    )
    with new_directory.written(output) as unfinished:
        run_checkpoints.Checkpointer(model, optimizer, unfinished, max_to_keep=1).save()
        about_file.write_about(unfinished, about)
        for name, text in (
            (saved_settings.JSON, saved_settings.to_json(config)),
            (saved_settings.GIN, saved_settings.to_gin(config)),
        ):
            files.write_text(os.path.join(unfinished, name), text)
        exports = os.path.join(unfinished, "saved_model")
        saved_model.export(model, exports, 0, keep=1, about=about)
        model_card.write(os.path.join(exports, "0"), _card(recognized, source, about))


def _card(recognized: RecognizedModel, source: str, about: dict) -> Card:
    return Card(
        network=recognition.describe_network(recognized.stored.shapes, recognized.config),
        weights=source,
        step=None,
        recipe=None,
        results={},
        evaluation=None,
        about=about,
        outputs=model_card.outputs_of(recognized.model),
        loading=loading_code.SAVED_MODEL,
        notes=recognized.stored.notes,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    args = vars(_parser().parse_args(argv))
    logging.set_verbosity(logging.ERROR)
    fixed = [name for name in FLAGS if args[name] is not None]
    try:
        config = parse_settings([f"--{name}={args[name]}" for name in fixed])
        converted = convert(
            args["source"],
            args["output"],
            config,
            fixed=fixed,
            rescale_v1=args["rescale_v1"],
            prefix=args["prefix"],
        )
    except ConfigError as error:
        sys.exit(f"convert_checkpoint.py: {error}")
    print(f"Recognized {converted.recognized}.")
    for note in converted.notes:
        print(f"Note: {note}")
    print(
        f"Wrote {args['output']}: ckpt-0, about.json, config.json, config.gin and saved_model/0; "
        f"{converted.num_variables} variables."
    )


def _parser() -> argparse.ArgumentParser:
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
        help="the weights: a checkpoint, a SavedModel, or a file in another format",
    )
    parser.add_argument(
        "--output",
        type=os.path.expanduser,
        required=True,
        metavar="DIR",
        help="new directory",
    )
    parser.add_argument(
        "--rescale_v1",
        action="store_true",
        help=f"divide the convolutions of SimCLRv1's released weights by {rescale.FACTOR:g}, which "
        "gives them the scale of SimCLRv2's; in inference the outputs stay the same",
    )
    parser.add_argument(
        "--prefix",
        default="",
        metavar="NAMES",
        help="the prefix of the network's names, in a PyTorch file that contains several networks",
    )
    help.add_settings(parser, FLAGS, default="recognized, otherwise {}")
    return parser


def parse_settings(given: Sequence[str]) -> Config:
    """Parses flags of run.py, which override what is recognized.

    Raises:
      ConfigError: a setting is wrong, or settings contradict each other.
    """
    # The empty binding keeps `parse` from using the demo's settings. Building a model needs a seed,
    # although the conversion replaces all random values.
    return flags.parse(["", "--gin_bindings=", "--seed=0", *given]).config


if __name__ == "__main__":
    main()
