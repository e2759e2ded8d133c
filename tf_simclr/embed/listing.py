"""Lists the inputs of a job and groups them into shards, in the same way each time.

A shard is the unit of work: one archive, or a number of image files. Each shard gets one output
file, so what is finished can be seen from the files.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tf_simclr import files
from tf_simclr.embed import storage
from tf_simclr.errors import ConfigError
from tf_simclr.modes import pictures

IMAGES, TAR, TFRECORD, PARQUET = "images", "tar", "tfrecord", "parquet"
KINDS = (IMAGES, TAR, TFRECORD, PARQUET)
AUTO = "auto"
_SUFFIXES = {
    TAR: re.compile(r"\.(tar|tar\.gz|tgz)$", re.IGNORECASE),
    TFRECORD: re.compile(r"\.tfrecords?(-\d+-of-\d+)?$", re.IGNORECASE),
    PARQUET: re.compile(r"\.parquet$", re.IGNORECASE),
}


class Shard(NamedTuple):
    """A unit of work.

    Attributes:
      kind: one of KINDS.
      paths: paths of image files, or of a single archive.
      size: size of the archive in bytes; 0 for image files.
    """

    kind: str
    paths: list[str]
    size: int = 0


def find(inputs: Sequence[str], *, kind: str, files_per_shard: int, output: str) -> list[Shard]:
    """Finds the inputs and groups them.

    Args:
      inputs: files, folders and patterns, on this machine or at URLs.
      kind: one of KINDS, or AUTO to tell it from the suffix of each file.
      files_per_shard: number of image files in a shard.
      output: the folder of the job. Files in it are no inputs.

    Returns:
      The shards. Each path is in one of them, even if several inputs name it.

    Raises:
      ConfigError: an input matches no file.
    """
    sizes: dict[str, int | None] = {}
    for text in inputs:
        sizes.update(_match(text))
    by_kind: dict[str, list[str]] = {name: [] for name in KINDS}
    for path in sorted(path for path in sizes if not _is_below(path, output)):
        by_kind[_kind_of(path) if kind == AUTO else kind].append(path)
    images = by_kind.pop(IMAGES)
    starts = range(0, len(images), files_per_shard)
    shards = [Shard(IMAGES, images[start : start + files_per_shard]) for start in starts]
    for name, group in by_kind.items():
        for path in group:
            size = sizes[path]
            shards.append(Shard(name, [path], os.path.getsize(path) if size is None else size))
    return shards


def fingerprint(shards: Iterable[Shard]) -> str:
    """Returns a text that changes with the paths of the inputs, and with the sizes of archives."""
    digest = hashlib.blake2b(digest_size=16)
    for shard in shards:
        digest.update(f"{shard!r}\n".encode())
    return digest.hexdigest()


def _match(text: str) -> Mapping[str, int | None]:
    """Returns {path: bytes} of an input. On this machine it is faster to look for sizes later."""
    if not files.is_url(text):
        return dict.fromkeys(pictures.find(text, flag="input"))
    sizes = storage.match(text)
    if not sizes:
        raise ConfigError(f"input {text!r} matches no file: give a folder or a pattern in quotes")
    return sizes


def _kind_of(path: str) -> str:
    kinds = (kind for kind, suffix in _SUFFIXES.items() if suffix.search(path))
    return next(kinds, IMAGES)


def _is_below(path: str, folder: str) -> bool:
    if files.is_url(path) or files.is_url(folder):
        return path.startswith(f"{folder}/")
    return os.path.abspath(path).startswith(f"{os.path.abspath(folder)}{os.sep}")
