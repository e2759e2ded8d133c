"""Finds the files of a folder, follows links to folders, and reads files.

Hidden files and folders are skipped at any depth, and so are those that operating systems and
network drives leave behind.
"""

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tf_simclr.data import errors

# In lower case: Windows spells its recycle bin in more than one way.
SYSTEM_NAMES = frozenset(
    {
        "__macosx",
        "@eadir",
        "#recycle",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "thumbs.db",
        "desktop.ini",
    }
)


class LabeledFiles(NamedTuple):
    """The files of a folder that is laid out as SPLIT/CLASS/.

    Attributes:
      paths: paths of all files, inside and outside of SPLIT/CLASS/, in a fixed order.
      class_folders: relative paths such as "train/cat", with or without files in them.
    """

    paths: list[str]
    class_folders: list[str]


def is_skipped(name: str) -> bool:
    """Returns whether a file or folder of this name is hidden or belongs to the system."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def walk(directory: str, *, seen: Iterable[str] = ()) -> Iterator[str]:
    """Yields the files at any depth in a fixed order, and folders that cannot be read.

    Links to folders are followed. Each real folder is visited once, so link loops end and no file
    is listed twice.

    Args:
      directory: where to start.
      seen: folders that must not be entered.
    """
    seen = {os.path.realpath(folder) for folder in seen}
    unreadable = []
    for parent, folders, names in os.walk(
        directory, followlinks=True, onerror=lambda error: unreadable.append(error.filename)
    ):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_skipped(name))
        for name in sorted(names):
            if not is_skipped(name):
                yield os.path.join(parent, name)
    yield from unreadable


def walk_labeled(directory: str) -> LabeledFiles:
    """Lists the files in data_dir/SPLIT/CLASS/.

    Every class folder is walked separately. Two splits or two classes may therefore link to one
    folder, and each then has all of its files.
    """
    splits, paths = _children(directory)
    class_folders = []
    for split in splits:
        split_folder = os.path.join(directory, split)
        if os.path.realpath(split_folder) == os.path.realpath(directory):
            continue
        names, files = _children(split_folder)
        paths += files
        for name in names:
            class_folders.append(os.path.join(split, name))
            paths += walk(os.path.join(split_folder, name), seen=(directory, split_folder))
    return LabeledFiles(paths, class_folders)


def read(path: bytes) -> bytes:
    """Reads a file; returns b"" if the file was deleted.

    Raises:
      OSError: the file cannot be read; with a marked message for `errors.in_one_line`.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise OSError(
            errors.marked(
                f"{os.fsdecode(path)!r} cannot be read ({error.strerror}): make it readable and "
                "start again; a run resumes from its last checkpoint"
            )
        ) from error


def _children(directory: str) -> tuple[list[str], list[str]]:
    """Lists the names of a folder's subfolders and the paths of its files, except skipped ones."""
    unreadable = []
    walker = os.walk(directory, onerror=lambda error: unreadable.append(error.filename))
    _, folders, names = next(walker, (directory, [], []))
    return (
        sorted(name for name in folders if not is_skipped(name)),
        [os.path.join(directory, name) for name in sorted(names) if not is_skipped(name)]
        + unreadable,
    )
