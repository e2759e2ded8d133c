"""Runs mode=predict: a trained model classifies or embeds image files."""

import sys
from collections.abc import Collection, Iterable, Sequence

import tensorflow as tf

from tf_simclr import preflight
from tf_simclr.config import Config
from tf_simclr.data import errors
from tf_simclr.data.sources import image_range
from tf_simclr.devices import strategies
from tf_simclr.errors import ConfigError
from tf_simclr.modes import pictures, tables
from tf_simclr.modes.trained_model import TrainedModel, find, open_model, runs_on_host

EMBEDDING, LOGITS = "final_avg_pool", "logits_sup"  # endpoints
NAMES_SHOWN = 5  # files that cannot be decoded, in a message


def run(config: Config, *, fixed: Collection[str] = ()) -> dict:
    """Classifies or embeds images and writes a table, row by row.

    Args:
      config: checked settings. The setting checkpoint names the model, in any format that
        docs/formats.md lists; if unset, it is the latest checkpoint in model_dir.
      fixed: names of the settings that the weights must not change: those given as flags.

    Returns:
      path: the path of the output. written and left_out: numbers of files.

    Raises:
      ConfigError: there are no images, there is no such checkpoint, it has no class probabilities,
        or the output cannot be written.
      UndecodableError: no image can be decoded; or, with strict_data, one of them cannot.
    """
    images, output = config.predict.images, config.predict.output
    checkpoint = config.training.checkpoint or config.runtime.model_dir
    assert images and output and checkpoint, "the settings are checked"
    batch_size = config.training.eval_batch_size

    # Check everything that can be checked before the model is built.
    paths = pictures.find(images)
    found = find(checkpoint)
    tables.check(output)
    if runs_on_host(found):
        strategy = tf.distribute.get_strategy()  # one replica
    else:
        strategy = strategies.from_config(config)
    preflight.check_divisible("eval_batch_size", batch_size, strategy)

    with strategy.scope():
        model = open_model(config, checkpoint, found, fixed=fixed)
    is_embedding = output.endswith(tables.EMBEDDINGS)
    endpoint = EMBEDDING if is_embedding else LOGITS
    width = model.width(endpoint)
    if width is None:
        raise ConfigError(
            f"checkpoint {checkpoint!r} has no classes: fine-tune it first, or write its "
            "embeddings with --output=embeddings.npy"
        )

    if model.note and not is_embedding:
        print(model.note, file=sys.stderr)

    def compute(images: tf.Tensor) -> tf.Tensor:
        values = model.endpoints(images)[endpoint]
        return values if is_embedding else tf.nn.softmax(tf.cast(values, tf.float32))

    reader = pictures.PictureReader(
        image_range.parse(config.data.image_range) or model.image_range,
        config.data.max_megapixels,
    )
    batches = pictures.compute_batches(
        strategy, compute, paths, reader, image_size=model.image_size, batch_size=batch_size
    )
    columns = None if is_embedding else _class_names(model, width)
    with tables.open_table(output, columns, width) as table:
        undecodable = _write_rows(table, batches, reader, strict=config.data.strict_data)
        if len(undecodable) == len(paths):
            raise errors.UndecodableError(
                f"images {images!r}: not one of {len(paths)} files is an image that can "
                f"be decoded ({reader.summary()})"
            )
    if undecodable:
        print(
            f"{len(undecodable)} of {len(paths)} files cannot be decoded and were left out "
            f"({reader.summary()}): {_listed(undecodable)}",
            file=sys.stderr,
        )
    written = len(paths) - len(undecodable)
    return {"path": output, "written": written, "left_out": len(undecodable)}


def _write_rows(
    table: tables.Table,
    batches: Iterable[pictures.PictureBatch],
    reader: pictures.PictureReader,
    *,
    strict: bool,
) -> list[str]:
    """Writes one row for each image that could be decoded.

    Returns:
      The paths of the images that could not be decoded.

    Raises:
      UndecodableError: strict is set, and an image cannot be decoded.
    """
    undecodable: list[str] = []
    for paths, decoded, values in batches:
        undecodable += [path for path, good in zip(paths, decoded, strict=True) if not good]
        if undecodable and strict:
            path = undecodable[0]
            raise errors.UndecodableError(
                f"{path!r} cannot be decoded ({reader.problems[path]}); remove it, or leave such "
                "files out with --strict_data=False"
            )
        rows = [path for path, good in zip(paths, decoded, strict=True) if good]
        table.write(rows, values[decoded])
    return undecodable


def _class_names(model: TrainedModel, num_classes: int) -> Sequence[str]:
    return model.class_names or [f"class_{i}" for i in range(num_classes)]


def _listed(paths: list[str]) -> str:
    """Lists the first paths, for a message."""
    return ", ".join(map(repr, paths[:NAMES_SHOWN])) + (", ..." if len(paths) > NAMES_SHOWN else "")
