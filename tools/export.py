"""Exports a model in the format of another library or device.

    python tools/export.py --checkpoint=runs/demo --format=onnx --check

--checkpoint takes weights in any format that can be read (docs/formats.md). The formats:

    saved_model  TensorFlow, TF Hub, TF Serving; every training run writes one without this tool
    keras        model.keras: a functional model of stock layers, for Keras 2 and Keras 3
    torch        model.safetensors, and model.py with the network as a torch.nn.Module
    onnx         model.onnx, for images of any size and any number
    tflite       model.tflite, for phones; --quantize=int8 computes in 8 bits

MODEL_CARD.md beside the export says how the weights were made and how to load them. --check loads
the export as a user would, compares its embeddings of 64 real images with the model's, and writes
the largest difference into the card. The images come from --images, otherwise from the evaluation
split of the run's data set.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
from absl import logging  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tf_simclr.checkpoints import new_directory, recognized_model, weights_file  # noqa: E402
from tf_simclr.checkpoints.exports import FORMATS, QUANTIZATIONS  # noqa: E402
from tf_simclr.checkpoints.model_card import NAME as CARD  # noqa: E402
from tf_simclr.checkpoints.recognized_model import RecognizedModel  # noqa: E402
from tf_simclr.cli import flags, help, quiet  # noqa: E402
from tf_simclr.config import Config, saved_settings  # noqa: E402
from tf_simclr.config.setting import NO_PATTERN  # noqa: E402
from tf_simclr.errors import ConfigError  # noqa: E402
from tf_simclr.modes import export_file, sample_images  # noqa: E402
from tf_simclr.modes.export_file import Exported, Job  # noqa: E402

CHECKED = 64  # images that --check compares
REPRESENTATIVE = 128  # images on which int8 measures the range of each activation
_CHECKPOINT = "weights in any format of docs/formats.md"
FLAGS = (
    "image_size",
    "image_range",
    "max_megapixels",
    "max_pool_padding",
    "input_normalization",
    "ft_proj_selector",
    "dataset",
    "data_dir",
    "eval_split",
    "train_split",
)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    args = _parser().parse_args(argv)
    logging.set_verbosity(logging.ERROR)
    try:
        with quiet.without_chatter(on_terminal=sys.stderr.isatty()):
            recognized, exported = export(args)
    except ConfigError as error:
        sys.exit(f"export.py: {error}")
    print(f"Recognized {recognized.describe()}.")
    for note in recognized.stored.notes:
        print(f"Note: {note}")
    print(f"Wrote {exported.path} ({exported.num_bytes / 1e6:.1f} MB) and {CARD}.")
    if exported.check:
        print(exported.check)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    path = os.path.expanduser
    parser.add_argument("--checkpoint", type=path, required=True, metavar="PATH", help=_CHECKPOINT)
    parser.add_argument("--format", choices=FORMATS, required=True, help="format to write")
    parser.add_argument(
        "--output", type=path, metavar="DIR", help="new directory (default CHECKPOINT_FORMAT)"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="compare the embeddings of 64 real images with the model's",
    )
    parser.add_argument(
        "--images", type=path, metavar="PATH", help="real images: a folder, a file or a pattern"
    )
    parser.add_argument(
        "--quantize",
        choices=QUANTIZATIONS,
        default="float32",
        help="type of the weights in TFLite; int8 needs real images (default float32)",
    )
    parser.add_argument(
        "--embedding_only",
        action="store_true",
        help="with --format=saved_model: leave out the heads, and return the embedding itself",
    )
    help.add_settings(parser, FLAGS, default="recognized, or that of the run")
    return parser


def export(args: argparse.Namespace) -> tuple[RecognizedModel, Exported]:
    """Writes an export.

    Args:
      args: the parsed command line.

    Raises:
      ConfigError: an argument is wrong, the weights or images cannot be read, or the export differs
        from the model. Nothing is written then.
    """
    _check_arguments(args)
    quantized = "" if args.quantize == "float32" else f"_{args.quantize}"
    default = f"{args.checkpoint.rstrip('/')}_{args.format}{quantized}"
    output = (args.output or default).rstrip("/")
    new_directory.check(output)
    recognized, recipe, config = _open(args, output)
    image_size = recognized.config.data.image_size
    checked, representative = _read_images(
        args, config.replace(image_size=image_size), has_data=bool(args.dataset or recipe)
    )
    job = Job(
        checkpoint=args.checkpoint,
        recognized=recognized,
        recipe=recipe,
        format=args.format,
        output=output,
        embedding_only=args.embedding_only,
        quantize=args.quantize,
        checked_images=checked,
        representative_images=representative,
    )
    return recognized, export_file.run(job)


def _check_arguments(args: argparse.Namespace) -> None:
    for name in ("checkpoint", "output"):
        value = getattr(args, name)
        if value and not NO_PATTERN.holds(value):
            raise ConfigError(f"{name} must be {NO_PATTERN.text}, got {value!r}")
    if args.quantize != "float32" and args.format != "tflite":
        raise ConfigError(
            f"quantize must be float32 with format={args.format}, got {args.quantize}: only TFLite "
            "is quantized"
        )
    if args.images and not (args.check or args.quantize == "int8"):
        raise ConfigError(
            "images must be unset without --check or --quantize=int8, got "
            f"{args.images!r}: nothing else reads them"
        )
    if args.embedding_only and args.format != "saved_model":
        raise ConfigError(
            f"embedding_only is for format=saved_model, got format={args.format}: the other "
            "formats name their outputs"
        )


def _open(args: argparse.Namespace, output: str) -> tuple[RecognizedModel, Config | None, Config]:
    """Builds the model.

    Returns:
      The model; the settings of the run that has trained it, or None if they are not recorded; and
      the settings of this command, with the flags.
    """
    given = {name: getattr(args, name) for name in FLAGS if getattr(args, name) is not None}
    # mode=probe starts from the settings of the checkpoint's run, with its data set.
    words = ["--mode=probe", "--seed=0", f"--checkpoint={args.checkpoint}", f"--model_dir={output}"]
    words += [f"--{name}={value}" for name, value in given.items()]
    parsed = flags.parse(["export.py", *words])
    stored = weights_file.open_weights(args.checkpoint)
    recognized = recognized_model.build(stored, args.checkpoint, parsed.config, fixed=given)
    saved = [path for path in parsed.base_files if saved_settings.is_saved_settings(path)]
    if recognized.about.source or not saved or not _is_ours(args.checkpoint):
        return recognized, None, parsed.config
    # Without the flags, which may name other images than the run's.
    recipe = Config().replace(**saved_settings.read(saved[0]))
    return recognized, recipe, parsed.config


def _is_ours(checkpoint: str) -> bool:
    """Returns whether a run, or this program, gave a file its name.

    The settings beside another file may be those of another network.
    """
    path = weights_file.find(checkpoint)
    names = {format.file for format in FORMATS.values()}
    return weights_file.step_of(path) is not None or os.path.basename(path) in names


def _read_images(
    args: argparse.Namespace, config: Config, *, has_data: bool
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Reads the images for --check and those for int8; None for those that are not needed.

    Raises:
      ConfigError: images are needed, and neither --images nor a data set gives them.
    """
    quantizes = args.quantize == "int8"
    if not (args.check or quantizes):
        return None, None
    if args.images:
        images = sample_images.from_files(config, args.images, CHECKED + REPRESENTATIVE)
        checked, rest = images[:CHECKED], images[CHECKED:]
        representative = rest if len(rest) >= CHECKED else images
    elif has_data:
        checked = sample_images.from_split(config, config.data.eval_split, CHECKED)
        representative = checked
        if quantizes:
            split = config.data.train_split
            representative = sample_images.from_split(config, split, REPRESENTATIVE)
    else:
        raise ConfigError(
            f"{'--quantize=int8' if quantizes else '--check'} needs real images, and checkpoint "
            f"{args.checkpoint!r} names no data set: give --images=FOLDER, or --dataset"
        )
    return checked if args.check else None, representative if quantizes else None


if __name__ == "__main__":
    main()
