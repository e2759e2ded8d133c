"""Reads the encoded images of a shard one after the other: files, tar, TFRecord or Parquet.

Names and contents are untrusted. A name is data: nothing is ever written under it. A damaged
archive gives the images before the damage, and then one item that says so.
"""

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tf_simclr.embed import parquet_rows, storage, tar_members, tfrecords
from tf_simclr.embed.listing import IMAGES, PARQUET, TAR, Shard

MAX_CONTENT = 2**28  # bytes of an encoded image
TOO_LARGE = f"larger than {MAX_CONTENT // 2**20} MiB"
MAX_NAME = 4096  # characters


class Keys(NamedTuple):
    """Where the examples of TFRecord and Parquet files have their values.

    Attributes:
      image: the feature or column of the encoded image.
      name: that of the name; None to name images by their position.
    """

    image: str = "image"
    name: str | None = None


class Item(NamedTuple):
    """An image, or what should have been one.

    Attributes:
      name: valid text, not necessarily unique.
      position: its place in the shard, from 0.
      content: the encoded image, or the path of a file that has it; None with a complaint.
      complaint: why there is no image; None if there may be one.
    """

    name: str
    position: int
    content: bytes | str | None
    complaint: str | None = None


def read(shard: Shard, keys: Keys) -> Iterator[Item]:
    """Yields the items of a shard, in a fixed order.

    Image files are not opened here, so that several can be read at a time.

    Raises:
      OSError: the storage fails. Doing the shard again may help.
    """
    if shard.kind == IMAGES:
        for position, path in enumerate(shard.paths):
            yield Item(valid_text(path), position, path)
        return
    [path] = shard.paths
    position = 0
    with storage.local_copy(path) as local:
        rows = _rows(shard.kind, local, keys)
        try:
            for name, content, complaint in rows:
                name = str(position) if name is None else name
                yield Item(valid_text(f"{path}/{name}"), position, content, complaint)
                position += 1
        except Exception as error:  # the parsers of damaged files can raise any exception
            if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno):
                raise
            complaint = f"damaged {shard.kind} file, not read further"
            yield Item(valid_text(path), position, None, complaint)


def valid_text(name: str) -> str:
    r"""Converts a name to text that UTF-8 can encode. Other bytes become \xNN."""
    text = os.fsencode(name) if _has_surrogates(name) else name.encode()
    name = text.decode("utf-8", "backslashreplace")
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}..."


def _has_surrogates(name: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in name)


def _rows(
    kind: str, path: str, keys: Keys
) -> Iterable[tuple[str | None, bytes | None, str | None]]:
    """Yields (name, content, complaint) of each image of an archive."""
    if kind == TAR:
        return tar_members.read(path, MAX_CONTENT, TOO_LARGE)
    module = parquet_rows if kind == PARQUET else tfrecords
    return module.read(path, keys.image, keys.name, MAX_CONTENT)
