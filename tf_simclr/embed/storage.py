"""Reads and writes files on this machine, and at URLs through the file systems of Apache Beam.

Which URLs work depends on what is installed: gs:// needs apache-beam[gcp], s3:// apache-beam[aws],
hdfs:// apache-beam[hadoop]. Files are written under another name and renamed when complete.
"""

import contextlib
import json
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from typing import Any

from tf_simclr import files
from tf_simclr.errors import ConfigError, one_line

UNFINISHED = "unfinished"  # the folder of files that are not complete
_COPY_SIZE = 2**22  # bytes


def file_systems() -> Any:
    """Returns Beam's file systems.

    Raises:
      ConfigError: Apache Beam is not installed.
    """
    require_beam()
    from apache_beam.io.filesystems import FileSystems

    return FileSystems


def require_beam() -> None:
    """Checks that Apache Beam is installed.

    Raises:
      ConfigError: it is not.
    """
    try:
        import apache_beam  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f'this needs Apache Beam ({one_line(error)}): pip install "tf_simclr[beam]"'
        ) from error


def match(pattern: str) -> dict[str, int]:
    """Returns {path: bytes} of the remote files of a folder or a pattern.

    `**/` matches any number of folders, also none. A hidden file, such as .DS_Store, is not listed.
    """
    if not any(char in pattern for char in "*?["):
        patterns = {pattern, f"{pattern.rstrip('/')}/**"}
    else:
        patterns = {pattern, pattern.replace("**/", "")}
    results = file_systems().match(sorted(patterns))
    found = [file for result in results for file in result.metadata_list]
    return {
        file.path: file.size_in_bytes
        for file in found
        if not os.path.basename(file.path).startswith(".")
    }


def read_limited(path: str, limit: int) -> bytes | None:
    """Reads a file. Returns None if it has more than `limit` bytes.

    Raises:
      OSError: it cannot be read, or is not a regular file.
    """
    if not files.is_url(path):
        # Opening a named pipe would wait for a writer.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise FileNotFoundError(path)
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    else:
        with _open_remote(path) as file:
            content = file.read(limit + 1)
    return content if len(content) <= limit else None


@contextlib.contextmanager
def local_copy(path: str) -> Iterator[str]:
    """Gives the path of a file on this machine: the file itself, or a temporary copy."""
    if not files.is_url(path):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise FileNotFoundError(path)
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "copy")
        with _open_remote(path) as source, open(copy, "wb") as target:
            shutil.copyfileobj(source, target, _COPY_SIZE)
        yield copy


@contextlib.contextmanager
def new_file(root: str, name: str) -> Iterator[str]:
    """Gives a path on this machine to write to. The file gets its name after the `with` block.

    Two processes may write the same file. Each writes under a name of its own, and the last wins.

    Args:
      root: the folder of a job.
      name: the path of the file below it.
    """
    unfinished = f"{root}/{UNFINISHED}/{uuid.uuid4().hex}"
    if not files.is_url(root):
        for path in (unfinished, f"{root}/{name}"):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            yield unfinished
            os.replace(unfinished, f"{root}/{name}")
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.remove(unfinished)
        return
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, "file")
        yield local
        systems = file_systems()
        with open(local, "rb") as source, _create_remote(unfinished) as target:
            shutil.copyfileobj(source, target, _COPY_SIZE)
        # Some file systems do not rename over an existing file.
        remove(f"{root}/{name}")
        systems.rename([unfinished], [f"{root}/{name}"])


def write_json(root: str, name: str, content: dict) -> None:
    """Writes a JSON file below the folder of a job."""
    with new_file(root, name) as path, open(path, "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.write("\n")


def read_json(path: str, *, limit: int = 2**30) -> dict[str, Any] | None:
    """Reads a JSON object. Returns None if there is no such file.

    Raises:
      ConfigError: the file is damaged.
    """
    if not exists(path):
        return None
    content = read_limited(path, limit)
    if content is None:
        raise ConfigError(f"{path} is larger than {limit} bytes: restore it or remove it")
    return files.parse_json_object(content.decode("utf-8", "replace"), path)


def exists(path: str) -> bool:
    """Returns whether a file or folder exists."""
    return file_systems().exists(path) if files.is_url(path) else os.path.exists(path)


def list_files(folder: str) -> dict[str, int]:
    """Returns {name: bytes} of what is in a folder; nothing if it does not exist."""
    if not files.is_url(folder):
        if not os.path.isdir(folder):
            return {}
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries}
    prefix = f"{folder}/"
    [result] = file_systems().match([f"{prefix}**"])
    # An object in a folder of the folder counts as that one.
    return {
        file.path[len(prefix) :].partition("/")[0]: file.size_in_bytes
        for file in result.metadata_list
    }


def remove(path: str) -> None:
    """Removes a file, or a folder with all its files, if it exists."""
    if not files.is_url(path):
        with contextlib.suppress(FileNotFoundError):
            files.remove(path)
        return
    systems = file_systems()
    paths = {path} if systems.exists(path) else set()
    [result] = systems.match([f"{path}/**"])
    paths |= {found.path for found in result.metadata_list}
    if paths:
        systems.delete(sorted(paths))


def _open_remote(path: str) -> Any:
    from apache_beam.io.filesystem import CompressionTypes

    # By default Beam decompresses files by their suffix.
    systems = file_systems()
    return systems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def _create_remote(path: str) -> Any:
    from apache_beam.io.filesystem import CompressionTypes

    systems = file_systems()
    return systems.create(path, compression_type=CompressionTypes.UNCOMPRESSED)
