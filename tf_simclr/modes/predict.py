"""mode=predict: what a trained model says of picture files, written as it comes.

The weights of our own runs go into our own model, those of their SavedModels too. A SavedModel's
graph is opened only where the user names that directory and nothing else will do: a graph is a
program, which may read and write files.

Memory does not grow with the number of pictures, only with the list of their names.
"""

import collections
import glob
import os
import sys
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from tf_simclr import preflight
from tf_simclr.checkpoints import weights
from tf_simclr.checkpoints.formats import saved_model
from tf_simclr.checkpoints.run_dir import read_about
from tf_simclr.config import Config, saved_settings
from tf_simclr.console import progress
from tf_simclr.data import errors
from tf_simclr.data.augment import host
from tf_simclr.data.sources import file_tree, folder_listing, image_files
from tf_simclr.data.sources import image_range as ranges
from tf_simclr.data.sources.image_range import ImageRange
from tf_simclr.devices import strategies
from tf_simclr.errors import ConfigError
from tf_simclr.models import from_config
from tf_simclr.modes import tables

SHOWN = 5  # names of files that cannot be decoded


def run(config: Config) -> dict:
    """Classifies or embeds pictures.

    Args:
      config: checked settings: images, output, and checkpoint, a SavedModel or a checkpoint.

    Returns:
      path of the output; written and left_out, numbers of files.

    Raises:
      ConfigError: no pictures, no such checkpoint, no class probabilities in it, or the output
        cannot be written.
      UndecodableError: not one picture can be decoded, or with strict_data one cannot.
    """
    predict = config.predict
    paths = _find(predict.images)
    checkpoint = config.training.checkpoint or config.runtime.model_dir
    prefix = _prefix(checkpoint)
    tables.check(predict.output)
    strategy = strategies.from_config(config)
    batch_size = config.training.eval_batch_size
    preflight.divisible("eval_batch_size", batch_size, strategy)
    with strategy.scope():
        model, about = _open(config, checkpoint, prefix)
    embeds = predict.output.endswith(tables.EMBEDDINGS)
    endpoint = "final_avg_pool" if embeds else "logits_sup"
    image_size = about["image_size"]
    width = _width(model, endpoint, image_size)
    if width is None:
        raise ConfigError(
            f"checkpoint {checkpoint!r} has no classes: fine-tune it first, or write its "
            "embeddings by --output=embeddings.npy"
        )
    names = about["class_names"] or [f"class_{i}" for i in range(width)]

    def compute(images):
        found = model(images)[endpoint]
        return found if embeds else tf.nn.softmax(tf.cast(found, tf.float32))

    problems = {}
    read = _reader(
        ranges.parse(config.data.image_range) or about["image_range"],
        config.data.max_megapixels,
        problems=problems,
    )
    with tables.open_table(predict.output, None if embeds else names, width) as table:
        bad = []
        for files, good, values in _values(strategy, compute, paths, image_size, batch_size, read):
            bad += [file for file, is_good in zip(files, good, strict=True) if not is_good]
            if bad and config.data.strict_data:
                raise errors.UndecodableError(
                    f"{bad[0]!r} cannot be decoded ({problems[bad[0]]}); remove it, or leave such "
                    "files out by --strict_data=False"
                )
            table.write(
                [file for file, is_good in zip(files, good, strict=True) if is_good], values[good]
            )
        if len(bad) == len(paths):
            raise errors.UndecodableError(
                f"images {predict.images!r}: not one of {len(paths)} files is a picture that can "
                f"be decoded ({_counted(problems)})"
            )
    if bad:
        names = ", ".join(map(repr, bad[:SHOWN])) + (", ..." if len(bad) > SHOWN else "")
        print(
            f"{len(bad)} of {len(paths)} files cannot be decoded and were left out "
            f"({_counted(problems)}): {names}",
            file=sys.stderr,
        )
    return {"path": predict.output, "written": len(paths) - len(bad), "left_out": len(bad)}


def _find(images: str) -> list[str]:
    """Files that a pattern or a folder names, sorted.

    Raises:
      ConfigError: there is none.
    """
    if os.path.isdir(images):
        paths = list(file_tree.walk(images))
    elif os.path.isfile(images):  # its name may hold brackets, which a pattern would not match
        paths = [images]
    else:
        paths = sorted(path for path in glob.glob(images, recursive=True) if os.path.isfile(path))
    if not paths:
        raise ConfigError(
            f"images {images!r} names no file: give a folder, or a pattern in quotes such as "
            "--images='pictures/**/*.jpg'"
        )
    return paths


def _prefix(path: str) -> str | None:
    """Prefix of the variables that a path names (`weights.find`); None where a graph has none."""
    try:
        return weights.find(path)
    except ConfigError:
        if saved_model.is_saved_model(path):
            return None
        raise


def _open(config: Config, path: str, prefix: str | None) -> tuple[Callable, dict]:
    """(function from images to endpoints, about: what `read_about` returns)."""
    if prefix and prefix != os.path.join(path, "variables", "variables"):
        return _checkpoint(config, prefix)
    if prefix and (opened := _variables_of_saved_model(config, path)):
        return opened
    print(
        f"{path}: the settings of its run are not beside this SavedModel, or do not fit it, so its "
        "own graph is opened, which can read and write files. Open only what you trust.",
        file=sys.stderr,
    )
    return _saved_model(config, path)


def _saved_model(config: Config, path: str) -> tuple[Callable, dict]:
    loaded = saved_model.load(path, flag="checkpoint")
    return lambda images: loaded(images, trainable=False), _about(config, path)


def _about(config: Config, path: str) -> dict:
    """What a SavedModel says of itself, and else the settings."""
    about = saved_model.read_about(path)
    return about | {"image_size": about["image_size"] or config.data.image_size}


def _variables_of_saved_model(config: Config, path: str) -> tuple[Callable, dict] | None:
    """Our own model with a SavedModel's variables; None where the settings of its run are unknown.

    The graph in the SavedModel, which would compute the same, is not touched.
    """
    saved = saved_settings.find_beside(path)
    if not saved:
        return None
    run_settings = Config().replace(**saved_settings.read(saved))
    if run_settings.model != config.model:
        return None
    size = run_settings.data.image_size
    config = config.replace(image_size=size, precision="float32")  # as it was exported
    try:
        stored = weights.Stored(path)
        model = from_config.make_model(config, _num_classes(stored))
        report = weights.restore_weights(model, path)
    except ConfigError:
        return None
    if report.missing:
        return None
    return lambda images: model(images, training=False), _about(config, path)


def _num_classes(stored: weights.Stored) -> int | None:
    shape = stored.shapes.get(f"{weights.SUPERVISED_HEAD}dense/bias")
    return shape[0] if shape else None


def _checkpoint(config: Config, prefix: str) -> tuple[Callable, dict]:
    num_classes = _num_classes(weights.Stored(prefix))
    model = from_config.make_model(config, num_classes)
    weights.restore_weights(model, prefix)
    about = read_about(os.path.dirname(prefix))
    names = about["class_names"]
    if num_classes is None or names is None or len(names) != num_classes:
        names = None
    return lambda images: model(images, training=False), about | {
        "image_size": config.data.image_size,
        "class_names": names,
    }


def _width(model: Callable, endpoint: str, image_size: int) -> int | None:
    """Width of an endpoint; None where the model has none of that name."""
    images = tf.TensorSpec((None, image_size, image_size, 3), tf.float32)
    outputs = tf.function(model).get_concrete_function(images).structured_outputs
    return outputs[endpoint].shape[-1] if endpoint in outputs else None


def _counted(problems: dict[str, str]) -> str:
    """Numbers of files by what is wrong with them, for a message."""
    return folder_listing.described(collections.Counter(problems.values()))


def _reader(
    image_range: ImageRange | None, max_megapixels: int, *, problems: dict[str, str]
) -> Callable[[bytes], tuple[np.ndarray, bool]]:
    """A function from the path of a file to (its pixels, True), or (one black pixel, False).

    Args:
      image_range: the values of 16-bit images that become black and white.
      max_megapixels: the largest picture, in millions of pixels.
      problems: where the function notes {path: why it cannot be decoded}.
    """
    limits = image_files.Limits(max_megapixels, image_range is not None)

    def read(path: bytes) -> tuple[np.ndarray, bool]:
        if not path:  # padding
            return np.zeros((1, 1, 3), np.uint8), False
        problem = image_files.inspect(path, limits).complaint
        if problem is None:
            try:
                with open(path, "rb") as file:
                    content = file.read()
                pixels = image_files.pixels(content, image_range, max_megapixels=max_megapixels)
                return pixels, True
            except Exception:  # Pillow's decoders raise whatever they like
                problem = "damaged"
        problems[os.fsdecode(path)] = problem
        return np.zeros((1, 1, 3), np.uint8), False

    return read


def _values(
    strategy: tf.distribute.Strategy,
    compute: Callable,
    paths: list[str],
    image_size: int,
    batch_size: int,
    read: Callable[[bytes], tuple[np.ndarray, bool]],
) -> Iterator[tuple[list[str], np.ndarray, np.ndarray]]:
    """(paths, which of them are good (n,), values (n, width)) of one batch after the other."""

    def view(path):
        image, good = tf.numpy_function(read, [path], (tf.uint8, tf.bool), stateful=False)
        image = tf.ensure_shape(image, (None, None, 3))
        view = host.evaluation_view(image, image_size=image_size)
        return view, tf.ensure_shape(good, ())

    encoded = [os.fsencode(path) for path in paths]
    padding = [b""] * (-len(paths) % batch_size)  # full batches, for all replicas alike
    dataset = tf.data.Dataset.from_tensor_slices(encoded + padding)
    dataset = dataset.map(
        tf.autograph.experimental.do_not_convert(view),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    dataset = dataset.batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)

    @tf.function
    def on_all(images, good):
        return strategy.run(lambda i, g: (compute(i), g), args=(images, good))

    batches = strategy.experimental_distribute_dataset(dataset.with_options(options))
    with progress(total=len(paths), desc="predict", unit="image") as bar:
        for number, (images, good) in enumerate(batches):
            files = paths[number * batch_size : (number + 1) * batch_size]
            values, good = (
                np.concatenate([part.numpy() for part in strategy.experimental_local_results(each)])
                for each in on_all(images, good)
            )
            yield files, good[: len(files)], values[: len(files)]
            bar.update(len(files))
