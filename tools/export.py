"""Exports a model in the format of another library or device.

    python tools/export.py --checkpoint=runs/demo --format=onnx --check

--checkpoint takes weights in any format that can be read (docs/formats.md). The formats:

    saved_model  TensorFlow, TF Hub and TF Serving; every training run writes one without this tool
    keras        model.keras: a functional model of stock layers, for Keras 2 and Keras 3
    torch        model.safetensors, and model.py with the network as a torch.nn.Module
    onnx         model.onnx, for any batch size; needs pip install 'tf_simclr[onnx]'
    tflite       model.tflite, for phones; --quantize=int8 also quantizes the activations

MODEL_CARD.md beside the export says how the weights were made and how to load them. --check loads
the export as a user would, compares its embeddings of 64 real images with the model's, and writes
the largest difference into the card. The images come from --images, otherwise from the evaluation
split of the run's data set.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from absl import logging  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tf_simclr import files  # noqa: E402
from tf_simclr.checkpoints import (  # noqa: E402
    about_file,
    exports,
    loading_code,
    model_card,
    recognition,
    recognized_model,
    weights_file,
)
from tf_simclr.checkpoints.exports import FORMATS, QUANTIZATIONS, Export  # noqa: E402
from tf_simclr.checkpoints.model_card import Card  # noqa: E402
from tf_simclr.checkpoints.recognized_model import RecognizedModel  # noqa: E402
from tf_simclr.cli import flags, help  # noqa: E402
from tf_simclr.config import Config, saved_settings, settings  # noqa: E402
from tf_simclr.config.setting import NO_PATTERN  # noqa: E402
from tf_simclr.errors import ConfigError, one_line  # noqa: E402
from tf_simclr.modes import sample_images  # noqa: E402

CHECKED = 64  # images that --check compares
REPRESENTATIVE = 128  # images that int8 quantization measures activations on
# Largest difference of an embedding, relative to the largest value, that --check accepts. The
# rounding of int8 depends on the network, so it is only reported.
TOLERANCES = {"float32": 1e-3, "float16": 2e-2}
FLAGS = (
    "image_size",
    "image_range",
    "max_megapixels",
    "dataset",
    "data_dir",
    "eval_split",
    "train_split",
    "ft_proj_selector",
)


class Exported(NamedTuple):
    """Describes what was written.

    Attributes:
      path: what --checkpoint takes.
      num_bytes: size of the export, without the card.
      recognized: what the source is, and which network its weights belong to.
      notes: what the user must know about the source.
      check: the result of --check; "" without it.
    """

    path: str
    num_bytes: int
    recognized: str
    notes: tuple[str, ...]
    check: str


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    args = _parser().parse_args(argv)
    logging.set_verbosity(logging.ERROR)
    try:
        done = export(args)
    except ConfigError as error:
        sys.exit(f"export.py: {error}")
    print(f"Recognized {done.recognized}.")
    for note in done.notes:
        print(f"Note: {note}")
    print(f"Wrote {done.path} ({done.num_bytes / 1e6:.1f} MB) and {model_card.NAME}.")
    if done.check:
        print(done.check)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    path = os.path.expanduser
    parser.add_argument("--checkpoint", type=path, required=True, metavar="PATH", help="weights")
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument(
        "--output", type=path, metavar="DIR", help="new directory (default CHECKPOINT_FORMAT)"
    )
    parser.add_argument("--check", action="store_true", help="compare 64 embeddings")
    parser.add_argument("--images", type=path, metavar="PATH", help="folder, file or pattern")
    parser.add_argument(
        "--quantize",
        choices=QUANTIZATIONS,
        default="float32",
        help="type of the weights in TFLite; int8 needs images (default float32)",
    )
    parser.add_argument(
        "--embedding_only", action="store_true", help="a SavedModel that returns one tensor"
    )
    for name in FLAGS:
        spec = settings()[name]
        parser.add_argument(
            f"--{name}",
            metavar=help.type_name(spec),
            help=f"{spec.help} (default: that of the run)".replace("%", "%%"),
        )
    return parser


def export(args: argparse.Namespace) -> Exported:
    """Writes an export.

    Args:
      args: the parsed command line.

    Raises:
      ConfigError: an argument is wrong, the weights or images cannot be read, or the export differs
        from the model. Nothing is written then.
    """
    _check_arguments(args)
    output = _output(args)
    recognized, recipe = _open(args, output)
    check_images, calibration_images = _read_images(args, recognized.config)
    about = about_file.content(
        recognized.config,
        recognized.about.class_names,
        source=None if recipe else recognized.stored.kind,
    )
    job = Export(recognized.model, about, args.embedding_only, args.quantize, calibration_images)
    unfinished = output + ".unfinished"
    try:
        _remove(unfinished)
        tf.io.gfile.makedirs(unfinished)
        FORMATS[args.format].write(job, unfinished)
        num_bytes = _size(unfinished)
        about_file.write_about(unfinished, about)
        settings_text = saved_settings.to_json(recipe or recognized.config)
        files.write_text(os.path.join(unfinished, saved_settings.JSON), settings_text)
        check = _check(args, recognized, unfinished, check_images) if args.check else ""
        model_card.write(unfinished, _card(args, recognized, recipe, about, check))
        _remove(output)
        tf.io.gfile.rename(unfinished, output)
    except (tf.errors.OpError, OSError) as error:
        raise ConfigError(
            f"output {output!r} cannot be written ({one_line(error)}): use another directory"
        ) from error
    finally:
        _remove(unfinished)
    path = os.path.join(output, FORMATS[args.format].file).rstrip("/")
    return Exported(path, num_bytes, recognized.describe(), recognized.stored.notes, check)


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
    if args.embedding_only and args.format != "saved_model":
        raise ConfigError(
            f"embedding_only is for format=saved_model, got format={args.format}: the other "
            "formats name their outputs"
        )


def _output(args: argparse.Namespace) -> str:
    """Returns the new directory.

    Raises:
      ConfigError: it exists and is not empty.
    """
    quantized = "" if args.quantize == "float32" else f"_{args.quantize}"
    default = f"{args.checkpoint.rstrip('/')}_{args.format}{quantized}"
    output = (args.output or default).rstrip("/")
    if tf.io.gfile.exists(output) and (
        not tf.io.gfile.isdir(output) or tf.io.gfile.listdir(output)
    ):
        raise ConfigError(
            f"output {output!r} exists and is not an empty directory: remove it, or use another"
        )
    return output


def _open(args: argparse.Namespace, output: str) -> tuple[RecognizedModel, Config | None]:
    """Builds the model; also returns the settings of the run that trained it, if they are known."""
    given = [f"--{name}={getattr(args, name)}" for name in FLAGS if getattr(args, name) is not None]
    fixed = [name for name in FLAGS if getattr(args, name) is not None]
    # mode=probe starts from the settings of the checkpoint's run, with its data set.
    words = ["--mode=probe", "--seed=0", f"--checkpoint={args.checkpoint}", f"--model_dir={output}"]
    parsed = flags.parse(["export.py", *words, *given])
    stored = weights_file.open_weights(args.checkpoint)
    recognized = recognized_model.build(stored, args.checkpoint, parsed.config, fixed=fixed)
    # Without the flags, which may name other images than the run's.
    saved = [path for path in parsed.base_files if saved_settings.is_saved_settings(path)]
    if recognized.about.source or not saved:
        return recognized, None
    return recognized, Config().replace(**saved_settings.read(saved[0]))


def _read_images(
    args: argparse.Namespace, config: Config
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
        rest = images[CHECKED:]
        return images[:CHECKED], (rest if len(rest) else images) if quantizes else None
    has_data = args.dataset or saved_settings.find_beside(args.checkpoint)
    if not has_data:
        needs = "--quantize=int8" if quantizes else "--check"
        raise ConfigError(
            f"images must be given with {needs}, because checkpoint {args.checkpoint!r} names no "
            "data set: give a folder of images as --images"
        )
    checked = sample_images.from_split(config, config.data.eval_split, CHECKED)
    if not quantizes:
        return checked, None
    return checked, sample_images.from_split(config, config.data.train_split, REPRESENTATIVE)


def _check(
    args: argparse.Namespace,
    recognized: RecognizedModel,
    directory: str,
    images: np.ndarray | None,
) -> str:
    """Compares the embeddings of the export and of the model.

    Returns:
      The largest difference, in words.

    Raises:
      ConfigError: the difference is larger than rounding explains.
    """
    assert images is not None, "they are read with --check"
    start = time.perf_counter()
    embed = FORMATS[args.format].load(directory)
    seconds = time.perf_counter() - start
    expected = recognized.model(images, training=False)[exports.EMBEDDING].numpy()
    embeddings = np.asarray(embed(images), np.float32)
    largest = float(np.abs(embeddings - expected).max())
    relative = largest / max(float(np.abs(expected).max()), 1e-30)
    cosine = float(np.min(_cosines(embeddings, expected)))
    text = (
        f"Checked on {len(images)} images: the largest difference of an embedding's value from the "
        f"model's is {largest:.2g}, {relative:.2g} of the largest value; the smallest cosine "
        f"similarity is {cosine:.6f}. Loading took {seconds:.1f} s."
    )
    if not relative <= TOLERANCES.get(args.quantize, np.inf):
        raise ConfigError(f"format={args.format} does not give the model's embeddings. {text}")
    return text


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.sum(first * second, axis=1) / np.maximum(norms, 1e-30)


def _card(
    args: argparse.Namespace,
    recognized: RecognizedModel,
    recipe: Config | None,
    about: dict,
    check: str,
) -> Card:
    step = weights_file.step_of(weights_file.find(args.checkpoint)) if recipe else None
    model_dir = os.path.dirname(saved_settings.find_beside(args.checkpoint) or "")
    outputs = model_card.outputs_of(recognized.model)
    if args.embedding_only:
        outputs = {exports.EMBEDDING: outputs[exports.EMBEDDING]}
    return Card(
        network=recognition.describe_network(recognized.stored.shapes, recognized.config),
        weights=args.checkpoint,
        step=step,
        recipe=recipe,
        results=model_card.results_of(model_dir, step) if recipe else {},
        about=about,
        outputs=outputs,
        loading=(
            loading_code.EMBEDDING_ONLY if args.embedding_only else FORMATS[args.format].loading
        ),
        check=check,
    )


def _size(directory: str) -> int:
    return sum(
        tf.io.gfile.stat(os.path.join(folder, name)).length
        for folder, _, names in tf.io.gfile.walk(directory)
        for name in names
    )


def _remove(directory: str):
    if tf.io.gfile.exists(directory):
        tf.io.gfile.rmtree(directory)


if __name__ == "__main__":
    main()
