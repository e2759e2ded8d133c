"""The pictures of a folder: which of its files are used, and why the others are not."""

import collections
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tf_simclr.console import progress
from tf_simclr.data.sources import file_tree, image_files, image_kinds
from tf_simclr.data.sources.kept_listing import KeptListing
from tf_simclr.errors import ConfigError

_THREADS = 16
_FILES_AT_ONCE = 64  # for one thread; handing them out one by one takes as long as looking at them


class Picture(NamedTuple):
    """A file that is used.

    Attributes:
      path: relative to data_dir. It is the example's id.
      inspection: what its first bytes tell.
    """

    path: str
    inspection: image_files.Inspection

    @property
    def place(self) -> tuple[str, str] | None:
        """(split, class); None where it does not lie in SPLIT/CLASS/."""
        parts = self.path.split(os.sep)
        return (parts[0], parts[1]) if len(parts) > 2 else None


class Listing(NamedTuple):
    """What is in a folder. All paths are relative to it.

    Attributes:
      pictures: the files that are used.
      left_out: {reason: number of files that are not}. The reason is the name of their format
        where that is one of images which are not read.
      first_left_out: the path of one of these, if there is any.
      class_folders: folders such as "train/cat", whether or not there are pictures in them.
    """

    pictures: list[Picture]
    left_out: dict[str, int]
    first_left_out: str | None
    class_folders: list[str]


def list_pictures(directory: str, *, unlabelled: bool, kept: KeptListing) -> Listing:
    """Looks at the first bytes of every file that is not known, with a progress bar.

    Args:
      directory: data_dir.
      unlabelled: whether pictures may lie anywhere in it, and not only in SPLIT/CLASS/.
      kept: looks at the files, and knows those that an earlier start has looked at.

    Raises:
      ConfigError: there is no picture, or none in SPLIT/CLASS/.
    """
    paths, class_folders = (
        (list(file_tree.walk(directory)), []) if unlabelled else file_tree.walk_labelled(directory)
    )
    good, left_out, first = _inspect(directory, paths, kept)
    if not good:
        reasons = f" ({described(left_out)})" if left_out else ""
        raise ConfigError(
            f"data_dir {directory!r} has no picture ({image_files.FORMAT_NAMES}) among its "
            f"{len(paths)} files{reasons}: name another folder"
        )
    misplaced = [] if unlabelled else [picture for picture in good if not picture.place]
    if len(misplaced) == len(good):
        raise ConfigError(
            f"data_dir {directory!r} holds {counted(len(good), 'picture')}, but none in "
            f"SPLIT/CLASS/ such as train/cat/ (the first is {shown(good[0].path)}): sort them so, "
            "or pretrain without labels by --unlabelled"
        )
    if misplaced:
        left_out["not in SPLIT/CLASS/"] = len(misplaced)
        first = first or misplaced[0].path
        good = [picture for picture in good if picture.place]
    return Listing(good, left_out, first, class_folders)


def shown(path: str) -> str:
    """A path for a message: in one line, whatever bytes it is made of."""
    return repr(path).strip("'\"")


def counted(number: int, noun: str, plural: str = "s") -> str:
    """A number with its noun, for a message: 1 class, 2 classes."""
    return f"{number} {noun}{plural if number != 1 else ''}"


def described(left_out: dict[str, int]) -> str:
    """Numbers of files by reason, for a message: "3 HEIC, 2 not a picture; convert ...".

    Args:
      left_out: {reason: number of files}, as a Listing has it.
    """
    text = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
    unread = sorted(left_out.keys() & image_kinds.NAMES)
    return text + (f"; {', '.join(unread)}: {image_kinds.WAY_OUT}" if unread else "")


def _inspect(
    directory: str, paths: list[str], kept: KeptListing
) -> tuple[list[Picture], dict[str, int], str | None]:
    """The pictures, how many other files there are by reason, and the path of the first of those.

    All paths that come back are relative to the folder.
    """
    good, left_out, first = [], collections.Counter(), None
    start = len(os.path.join(directory, ""))
    paths = [path[start:] for path in paths]
    parts = [paths[i : i + _FILES_AT_ONCE] for i in range(0, len(paths), _FILES_AT_ONCE)]
    bar = progress(total=len(paths), desc="looking at files", unit="file")
    with bar, ThreadPoolExecutor(_THREADS) as pool:
        all_found = pool.map(lambda part: [kept.inspect(directory, path) for path in part], parts)
        for part, found in zip(parts, all_found, strict=True):
            for path, inspection in zip(part, found, strict=True):
                if inspection.complaint is None:
                    good.append(Picture(path, inspection))
                else:
                    left_out[inspection.complaint] += 1
                    first = first or path
            bar.update(len(part))
    return good, dict(left_out), first
