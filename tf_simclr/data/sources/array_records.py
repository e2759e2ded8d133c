"""Reads TFDS data sets that are stored as array_record files.

TFDS cannot read these with tf.data. It gives access to single records through the package
array_record. They are read in this process, a few at a time.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_simclr.data.sources import index_order
from tf_simclr.errors import ConfigError, one_line

FORMAT = "array_record"
_GROUP = 32  # records that are read by one call


def uses_array_record(builder: Any) -> bool:
    """Returns whether a data set's files are array_record files."""
    file_format = builder.info.file_format
    return file_format is not None and file_format.value == FORMAT


def check(dataset: str) -> None:
    """Raises ConfigError if the package that reads the files is missing.

    Args:
      dataset: as given to --dataset, for the message.
    """
    try:
        from array_record.python import array_record_data_source  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"--dataset={dataset} is stored as array_record files, and the package that reads them "
            f"is missing ({one_line(error)}): pip install array_record, or prepare the data set "
            "as TFRecord files"
        ) from error


def examples(
    builder: Any,
    terms: Sequence[tuple[str, int, int]],
    decoding: tfds.decode.PartialDecoding,
    *,
    shuffle: bool = False,
    seed: int | tf.Tensor | None = None,
    with_id: bool = False,
) -> tf.data.Dataset:
    """Reads a split once, like TFDS's as_dataset for files of other formats.

    Args:
      builder: builder of a prepared data set.
      terms: the split's terms from `Splits.terms`: (name, first record, one past its last).
      decoding: which features to decode, and how.
      shuffle: shuffle the records, in an order given by the seed.
      seed: an integer or an int64 scalar.
      with_id: add "tfds_id", a string made of split name and record index. It is the same in every
        slice that contains the record.
    """
    names, starts, stops = (list(column) for column in zip(*terms, strict=True))
    split = "+".join(f"{name}[{start}:{stop}]" for name, start, stop in terms)
    # The records are bytes. Their features are decoded in the graph.
    records = builder.as_data_source(split=split).data_source
    ends = tf.constant(np.cumsum(np.subtract(stops, starts)), tf.int64)
    features = decoding.extract_features(builder.info.features)
    count = len(records)

    def read(indices: np.ndarray) -> np.ndarray:
        # dtype object, because NumPy strings drop trailing zero bytes
        return np.array([records[int(index)] for index in indices], object)

    def read_group(first: tf.Tensor) -> dict[str, tf.Tensor]:
        index = tf.range(first, tf.minimum(first + _GROUP, count))
        if shuffle:
            index = index_order.shuffled_index(index, seed, count)
        serialized = tf.numpy_function(read, [index], tf.string, stateful=False)
        return {"index": index, "record": tf.ensure_shape(serialized, (None,))}

    def parse(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        parsed = features.deserialize_example(example["record"], decoders=decoding.decoders)
        if with_id:
            term = tf.searchsorted(ends, example["index"][None], side="right")[0]
            number = example["index"] - ends[term] + tf.constant(stops, tf.int64)[term]
            name = tf.constant(names)[term]
            parsed["tfds_id"] = tf.strings.join([name, "__", tf.strings.as_string(number)])
        return parsed

    groups = tf.data.Dataset.range(0, count, _GROUP).map(
        tf.autograph.experimental.do_not_convert(read_group),
        num_parallel_calls=2,
        deterministic=True,
    )
    return groups.unbatch().map(
        tf.autograph.experimental.do_not_convert(parse),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
