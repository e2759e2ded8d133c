"""Writes the files of a shard: embeddings, images that were left out, and at last a receipt.

The receipt marks the shard as finished, so the work of a killed process is done again as a whole.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_simclr.embed import storage
from tf_simclr.embed.parquet_rows import require_parquet

EMBEDDINGS, LEFT_OUT, RECEIPTS = "embeddings", "left_out", "finished"  # folders
FORMATS = ("parquet", "tfrecord")
_GROUP_BYTES = 2**26  # of embeddings in a row group


class LeftOut(NamedTuple):
    """An image without an embedding.

    Attributes:
      name: its name.
      position: its place in the shard.
      reason: why.
    """

    name: str
    position: int
    reason: str


class Batch(NamedTuple):
    """A batch of results.

    Attributes:
      names: n names.
      positions: n places in the shard.
      embeddings: float32 (n, width).
      left_out: images since the last batch that have no embedding.
    """

    names: Sequence[str]
    positions: Sequence[int]
    embeddings: np.ndarray
    left_out: Sequence[LeftOut]


class Receipt(NamedTuple):
    """The number of images of a finished shard.

    Attributes:
      images: number of embeddings.
      left_out: number of images that were left out.
    """

    images: int
    left_out: int


def file_name(folder: str, index: int, count: int, suffix: str) -> str:
    """Returns the path of a shard's file below the folder of the job."""
    return f"{folder}/{index:05}-of-{count:05}.{suffix}"


def receipt_name(index: int) -> str:
    """Returns the path of a shard's receipt below the folder of the job."""
    return f"{RECEIPTS}/{index:05}.json"


def read_receipt(root: str, index: int) -> Receipt | None:
    """Returns the receipt of a shard; None if the shard is not finished."""
    content = storage.read_json(f"{root}/{receipt_name(index)}")
    return None if content is None else Receipt(int(content["images"]), int(content["left_out"]))


def write(
    root: str, index: int, count: int, batches: Iterator[Batch], *, width: int, format: str
) -> Receipt:
    """Writes the files of a shard, and then its receipt.

    Args:
      root: the folder of the job.
      index: the number of the shard, from 0.
      count: the number of shards.
      batches: the results.
      width: width of an embedding.
      format: one of FORMATS.
    """
    images = num_left_out = 0
    left_out_name = file_name(LEFT_OUT, index, count, "jsonl")
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(
            storage.new_file(root, file_name(EMBEDDINGS, index, count, format))
        )
        writer_type: Any = _Parquet if format == "parquet" else _TFRecord
        writer = stack.enter_context(writer_type(path, width))
        lines: Any = None
        for batch in batches:
            writer.write(batch)
            images += len(batch.names)
            num_left_out += len(batch.left_out)
            if batch.left_out and lines is None:
                path = stack.enter_context(storage.new_file(root, left_out_name))
                lines = stack.enter_context(open(path, "w", encoding="utf-8"))
            for row in batch.left_out:
                lines.write(json.dumps(row._asdict()) + "\n")
        if lines is None:
            storage.remove(f"{root}/{left_out_name}")  # an earlier attempt may have written it
    storage.write_json(root, receipt_name(index), Receipt(images, num_left_out)._asdict())
    return Receipt(images, num_left_out)


class _Parquet(contextlib.ExitStack):
    """Columns name: string, position: int64, embedding: fixed_size_list<float32>[width]."""

    def __init__(self, path: str, width: int):
        super().__init__()
        parquet = require_parquet()
        import pyarrow

        self._pyarrow, self._width = pyarrow, width
        self._schema = pyarrow.schema(
            {
                "name": pyarrow.string(),
                "position": pyarrow.int64(),
                "embedding": pyarrow.list_(pyarrow.float32(), width),
            }
        )
        # Embeddings are noise to a compressor.
        self._file = self.enter_context(
            parquet.ParquetWriter(path, self._schema, compression="none", use_dictionary=False)
        )
        self._waiting: list[Batch] = []
        self._size = 0

    def write(self, batch: Batch) -> None:
        self._waiting.append(batch)
        self._size += batch.embeddings.nbytes
        if self._size >= _GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        values = [batch.embeddings.ravel() for batch in self._waiting]
        flat = np.concatenate(values) if values else np.zeros(0, np.float32)
        columns = [
            [name for batch in self._waiting for name in batch.names],
            [position for batch in self._waiting for position in batch.positions],
            self._pyarrow.FixedSizeListArray.from_arrays(flat, self._width),
        ]
        self._file.write_table(self._pyarrow.table(columns, schema=self._schema))
        self._waiting, self._size = [], 0

    def __exit__(self, error_type, *error) -> bool | None:
        if error_type is None:
            self._flush()
        return super().__exit__(error_type, *error)


class _TFRecord(contextlib.ExitStack):
    """Examples with the features name: bytes, position: int64, embedding: float32 (width,)."""

    def __init__(self, path: str, width: int):
        super().__init__()
        self._file = self.enter_context(tf.io.TFRecordWriter(path))

    def write(self, batch: Batch) -> None:
        rows = zip(batch.names, batch.positions, batch.embeddings, strict=True)
        for name, position, embedding in rows:
            features = {
                "name": tf.train.Feature(bytes_list=tf.train.BytesList(value=[name.encode()])),
                "position": tf.train.Feature(int64_list=tf.train.Int64List(value=[position])),
                "embedding": tf.train.Feature(float_list=tf.train.FloatList(value=embedding)),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            self._file.write(example.SerializeToString())
