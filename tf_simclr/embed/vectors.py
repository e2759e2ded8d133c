"""Reads the embeddings of a finished or unfinished job, and searches them with faiss."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_simclr.embed import shard_files, storage
from tf_simclr.embed.parquet_rows import require_parquet
from tf_simclr.errors import ConfigError, one_line

_ROWS = 4096  # read at a time
_SHARD = 2**32  # the id of an embedding is _SHARD * number of its file + its row
_TRAINING_ROWS = 2**18  # enough for an index of 4,096 cells


class Block(NamedTuple):
    """Successive embeddings of one file.

    Attributes:
      ids: int64 (n,), see `name_of`.
      embeddings: float32 (n, width), of length 1.
    """

    ids: np.ndarray
    embeddings: np.ndarray


def files_of(output: str) -> list[str]:
    """Lists the files of a job's embeddings in their order.

    Raises:
      ConfigError: there are none.
    """
    folder = f"{output}/{shard_files.EMBEDDINGS}"
    endings = tuple(f".{format}" for format in shard_files.FORMATS)
    names = sorted(name for name in storage.list_files(folder) if name.endswith(endings))
    if not names:
        raise ConfigError(f"{output!r} has no embeddings: give the --output of tf-simclr embed")
    return [f"{folder}/{name}" for name in names]


def blocks(paths: Sequence[str]) -> Iterator[Block]:
    """Yields all embeddings, scaled to length 1.

    Raises:
      ConfigError: a file is damaged.
    """
    for number, path in enumerate(paths):
        row = number * _SHARD
        for _, embeddings in _read(path):
            norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
            ids = np.arange(row, row + len(embeddings), dtype=np.int64)
            row += len(embeddings)
            yield Block(ids, embeddings / np.maximum(norms, 1e-12))


def names_of(paths: Sequence[str], ids: Sequence[int]) -> dict[int, str]:
    """Returns {id: name}. Only the files that have them are read.

    Args:
      paths: the files that `files_of` lists.
      ids: ids of embeddings.
    """
    names = {}
    for number in sorted({id // _SHARD for id in ids}):
        wanted = {id % _SHARD for id in ids if id // _SHARD == number}
        start = 0
        for block, _ in _read(paths[number]):
            for row in wanted & set(range(start, start + len(block))):
                names[number * _SHARD + row] = block[row - start]
            start += len(block)
    return names


def require_faiss() -> Any:
    """Imports faiss.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise ConfigError(
            f'search needs faiss ({one_line(error)}): pip install "tf_simclr[beam]"'
        ) from error
    return faiss


def build_index(paths: Sequence[str], factory: str) -> Any:
    """Builds an index of inner products, which are cosines here.

    Args:
      paths: the files that `files_of` lists.
      factory: a text of faiss.index_factory: "Flat" compares with all embeddings and needs their
        memory, "OPQ64_256,IVF4096,PQ64" needs 72 bytes for each.

    Raises:
      ConfigError: faiss does not know such a factory, or a file is damaged.
    """
    faiss = require_faiss()
    first = next(blocks(paths), None)
    if first is None:
        raise ConfigError(f"{paths[0]!r} and the other files have no embedding: give another job")
    try:
        index = faiss.index_factory(first.embeddings.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            index.train(_sample(paths))
    except RuntimeError as error:
        raise ConfigError(
            f"factory {factory!r} is not possible ({one_line(error).partition(' Error: ')[2]}): "
            "give another, such as Flat"
        ) from error
    if factory == "Flat":
        index = faiss.IndexIDMap2(index)
    for ids, embeddings in blocks(paths):
        index.add_with_ids(embeddings, ids)
    return index


def search(
    index: Any, queries: Sequence[np.ndarray], neighbors: int, *, probes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Searches an index.

    Args:
      index: an index that `build_index` or `read_index` returns.
      queries: embeddings, float32 (width,) each.
      neighbors: number of neighbors k of each query.
      probes: number of cells to search, if the index has cells.

    Returns:
      Cosine similarities, float32 (n, k), and ids, int64 (n, k), which are -1 if there are fewer.

    Raises:
      ConfigError: the embeddings have another width.
    """
    values = np.stack(queries).astype(np.float32)
    if values.shape[1] != index.d:
        raise ConfigError(
            f"the checkpoint has embeddings of width {values.shape[1]}, and the index of width "
            f"{index.d}: give the checkpoint that made them"
        )
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    cells = require_faiss().try_extract_index_ivf(index)
    if cells is not None:
        cells.nprobe = min(probes, cells.nlist)
    return index.search(values, neighbors)


def write_index(index: Any, path: str, paths: Sequence[str]) -> None:
    """Writes an index, and beside it (PATH.json) which files its ids count."""
    folder, name = os.path.split(path)
    with storage.new_file(folder or ".", name) as unfinished:
        require_faiss().write_index(index, unfinished)
    storage.write_json(folder or ".", f"{name}.json", _about(paths))


def read_index(path: str, paths: Sequence[str]) -> Any:
    """Reads an index. Only open what you trust: faiss is not made for hostile files.

    Raises:
      ConfigError: it is damaged, or belongs to other files.
    """
    if storage.read_json(f"{path}.json") != _about(paths):
        raise ConfigError(
            f"index {path!r} was not built from these embeddings: remove it to build it anew, or "
            "give another file"
        )
    try:
        return require_faiss().read_index(path)
    except RuntimeError as error:
        raise ConfigError(
            f"index {path!r} cannot be read ({one_line(error)}): remove it to build it anew"
        ) from error


def _about(paths: Sequence[str]) -> dict[str, Any]:
    """Identifies the files of embeddings."""
    sizes = storage.list_files(os.path.dirname(paths[0]))
    rows = [(path, sizes[os.path.basename(path)]) for path in paths]
    digest = hashlib.blake2b(repr(rows).encode(), digest_size=16)
    return {"files": len(paths), "fingerprint": digest.hexdigest()}


def _sample(paths: Sequence[str]) -> np.ndarray:
    """Returns embeddings of files in random order, for training an index."""
    order = np.random.default_rng(0).permutation(len(paths))
    parts: list[np.ndarray] = []
    for _, embeddings in blocks([paths[i] for i in order]):
        parts.append(embeddings)
        if sum(map(len, parts)) >= _TRAINING_ROWS:
            break
    return np.concatenate(parts)


def _read(path: str) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yields (n names, float32 (n, width)) of a file.

    Raises:
      ConfigError: it is damaged.
    """
    read = _read_parquet if path.endswith(".parquet") else _read_tfrecords
    with storage.local_copy(path) as local:
        try:
            yield from read(local)
        except (tf.errors.OpError, ValueError, KeyError, OSError) as error:
            raise ConfigError(
                f"{path!r} cannot be read ({one_line(error)}): remove it and its receipt in "
                f"{shard_files.RECEIPTS}/, and repeat tf-simclr embed"
            ) from error


def _read_parquet(path: str) -> Iterator[tuple[list[str], np.ndarray]]:
    with require_parquet().ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS, columns=["name", "embedding"]):
            column = batch.column("embedding")
            values = column.flatten().to_numpy(zero_copy_only=False)
            yield batch.column("name").to_pylist(), values.reshape(len(batch), -1)


def _read_tfrecords(path: str) -> Iterator[tuple[list[str], np.ndarray]]:
    records = tf.data.TFRecordDataset(path).batch(_ROWS)
    for batch in records.as_numpy_iterator():
        examples = [tf.train.Example.FromString(record).features.feature for record in batch]
        names = [example["name"].bytes_list.value[0].decode() for example in examples]
        values = [example["embedding"].float_list.value for example in examples]
        yield names, np.array(values, np.float32)
