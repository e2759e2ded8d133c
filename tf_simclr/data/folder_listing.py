"""The pictures of a folder: which of its files are used, and why the others are not."""

import collections
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tqdm import tqdm

from tf_simclr.config import ConfigError
from tf_simclr.data import file_tree, image_files

_THREADS = 16


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
      left_out: {reason: number of files that are not}.
      first_left_out: the path of one of these, if there is any.
      class_folders: folders such as "train/cat", whether or not there are pictures in them.
    """

    pictures: list[Picture]
    left_out: dict[str, int]
    first_left_out: str | None
    class_folders: list[str]


def list_pictures(directory: str, *, unlabelled: bool) -> Listing:
    """Looks at the first bytes of every file, with a progress bar.

    Args:
      directory: data_dir.
      unlabelled: whether pictures may lie anywhere in it, and not only in SPLIT/CLASS/.

    Raises:
      ConfigError: there is no picture, or none in SPLIT/CLASS/.
    """
    paths, class_folders = (
        (list(file_tree.walk(directory)), []) if unlabelled else file_tree.walk_labelled(directory)
    )
    good, left_out, first = _inspect(directory, paths)
    if not good:
        raise ConfigError(
            f"data_dir {directory!r} has no picture (JPEG, PNG, WebP, BMP or GIF) among its "
            f"{len(paths)} files: name another folder"
        )
    misplaced = [] if unlabelled else [picture for picture in good if not picture.place]
    if len(misplaced) == len(good):
        raise ConfigError(
            f"data_dir {directory!r} holds {len(good)} pictures, but none in SPLIT/CLASS/ such as "
            f"train/cat/ (the first is {shown(good[0].path)}): sort them so, or pretrain without "
            "labels by --unlabelled"
        )
    if misplaced:
        left_out["not in SPLIT/CLASS/"] = len(misplaced)
        first = first or misplaced[0].path
        good = [picture for picture in good if picture.place]
    return Listing(good, left_out, first, class_folders)


def shown(path: str) -> str:
    """A path for a message: in one line, whatever bytes it is made of."""
    return repr(path).strip("'\"")


def _inspect(directory: str, paths: list[str]) -> tuple[list[Picture], dict[str, int], str | None]:
    """The pictures, how many other files there are by reason, and the path of the first of those.

    All paths that come back are relative to the folder.
    """
    good, left_out, first = [], collections.Counter(), None
    start = len(os.path.join(directory, ""))
    with ThreadPoolExecutor(_THREADS) as pool:
        inspections = tqdm(
            pool.map(image_files.inspect, paths),
            total=len(paths),
            delay=1,
            leave=False,
            desc="looking at files",
            unit="file",
        )
        for path, inspection in zip(paths, inspections, strict=True):
            if inspection.complaint is None:
                good.append(Picture(path[start:], inspection))
            else:
                left_out[inspection.complaint] += 1
                first = first or path[start:]
    return good, dict(left_out), first
