"""Reads images from a TFRecord file of tf.train.Example protocol buffers."""

import os
from collections.abc import Iterator

import tensorflow as tf
from google.protobuf.message import DecodeError

NOT_AN_EXAMPLE, NO_IMAGE = "not a tf.train.Example", "without the feature of --image_key"
_FRAME = 16  # bytes around a record: its length, and the checksums of both
_MAX_REST = 2**20  # bytes of a record besides its image


def read(
    path: str, image_key: str, name_key: str | None, max_content: int
) -> Iterator[tuple[str | None, bytes | None, str | None]]:
    """Yields (name, content, complaint) of each record. A name of None stands for no name.

    Args:
      path: the file, on this machine.
      image_key: the feature of the encoded image.
      name_key: the feature of the name, bytes or an integer; None for no names.
      max_content: the largest image to read, in bytes.

    Raises:
      tf.errors.DataLossError or ValueError: the file is damaged.
    """
    count, is_complete = _count_records(path, max_content + _MAX_REST)
    with tf.device("CPU:0"):
        for record in tf.data.TFRecordDataset(path).take(count).as_numpy_iterator():
            yield _parse(record, image_key, name_key)
    if not is_complete:
        raise ValueError("the file is cut off, or a record is too long")


def feature_names(path: str) -> list[str]:
    """Lists the features of the first record; none if it is not a tf.train.Example."""
    for record in tf.data.TFRecordDataset(path).take(1).as_numpy_iterator():
        try:
            return sorted(tf.train.Example.FromString(record).features.feature)
        except DecodeError:
            return []
    return []


def _count_records(path: str, max_length: int) -> tuple[int, bool]:
    """Counts the records up to the first impossible length, and returns whether these are all.

    TensorFlow would ask for as much memory as a record claims.
    """
    size, start, count = os.path.getsize(path), 0, 0
    with open(path, "rb") as file:
        while start < size:
            file.seek(start)
            length = int.from_bytes(file.read(8), "little")
            start += length + _FRAME
            if length > max_length or start > size:
                return count, False
            count += 1
    return count, True


def _parse(
    record: bytes, image_key: str, name_key: str | None
) -> tuple[str | None, bytes | None, str | None]:
    try:
        features = tf.train.Example.FromString(record).features.feature
    except DecodeError:
        return None, None, NOT_AN_EXAMPLE
    name = None
    if name_key is not None and name_key in features:
        feature = features[name_key]
        if feature.bytes_list.value:
            name = feature.bytes_list.value[0].decode("utf-8", "backslashreplace")
        elif feature.int64_list.value:
            name = str(feature.int64_list.value[0])
    if image_key not in features or not features[image_key].bytes_list.value:
        return name, None, NO_IMAGE
    return name, features[image_key].bytes_list.value[0], None
