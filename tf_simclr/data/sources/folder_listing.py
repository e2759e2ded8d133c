"""The pictures of a folder: which of its files are used, and why some are not."""

import collections
import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tf_simclr.console import progress
from tf_simclr.data.sources import file_tree, image_files, image_kinds
from tf_simclr.data.sources.kept_listing import KeptListing
from tf_simclr.errors import ConfigError

_NAMES_SHOWN = 5
_THREADS = 16
_FILES_AT_ONCE = 64  # for one thread; handing out single files would cost as much as reading them


class Picture(NamedTuple):
    """A picture file that is used.

    Attributes:
      path: relative to data_dir. It is the example's id.
      inspection: what its first bytes tell.
    """

    path: str
    inspection: image_files.Inspection

    @property
    def is_in_class_folder(self) -> bool:
        """Whether it lies in SPLIT/CLASS/, at any depth below."""
        return self.path.count(os.sep) >= 2

    @property
    def split_and_class(self) -> tuple[str, str]:
        """Names of its split and its class, where it lies in SPLIT/CLASS/."""
        split, class_name, *_ = self.path.split(os.sep)
        return split, class_name

    @property
    def shuffling_key(self) -> tuple[bytes, str]:
        """Sorts pictures in an order that has nothing to do with their classes."""
        name = os.fsencode(self.path.replace(os.sep, "/"))
        return hashlib.blake2b(name, digest_size=16).digest(), self.path


class Listing(NamedTuple):
    """What is in a folder. All paths are relative to it.

    Attributes:
      pictures: the files that are used.
      left_out: {reason: number of files that are not used}. For an image format that cannot be
        read, the reason is the name of the format.
      first_left_out: the path of one of these files, if there is any.
      class_folders: folders such as "train/cat", whether or not there are pictures in them.
    """

    pictures: list[Picture]
    left_out: dict[str, int]
    first_left_out: str | None
    class_folders: list[str]


def list_pictures(directory: str, *, unlabelled: bool, kept: KeptListing) -> Listing:
    """Inspects the first bytes of every file that is not known yet, with a progress bar.

    Args:
      directory: data_dir.
      unlabelled: whether pictures may lie anywhere in it, and not only in SPLIT/CLASS/.
      kept: inspects the files, and knows those that an earlier start has inspected.

    Raises:
      ConfigError: there is no picture, or none in SPLIT/CLASS/.
    """
    class_folders: list[str] = []
    if unlabelled:
        paths = list(file_tree.walk(directory))
    else:
        paths, class_folders = file_tree.walk_labeled(directory)
    good, left_out, first = _inspect(directory, paths, kept)
    if not good:
        reasons = f" ({described(left_out)})" if left_out else ""
        raise ConfigError(
            f"data_dir {directory!r} has no picture ({image_files.FORMAT_NAMES}) among its "
            f"{len(paths)} files{reasons}: name another folder"
        )
    if unlabelled:
        return Listing(good, left_out, first, class_folders)
    misplaced = [picture for picture in good if not picture.is_in_class_folder]
    if len(misplaced) == len(good):
        raise ConfigError(
            f"data_dir {directory!r} holds {counted(len(good), 'picture')}, but none in "
            f"SPLIT/CLASS/ such as train/cat/ (the first is {shown(good[0].path)}): sort them so, "
            "or pretrain without labels by --unlabelled"
        )
    if misplaced:
        left_out["not in SPLIT/CLASS/"] = len(misplaced)
        first = first or misplaced[0].path
        good = [picture for picture in good if picture.is_in_class_folder]
    return Listing(good, left_out, first, class_folders)


def shown(path: str) -> str:
    """Writes a path for a message: in one line, whatever bytes it is made of."""
    return repr(path).strip("'\"")


def counted(number: int, noun: str, plural: str = "s") -> str:
    """Writes a number with its noun, for a message: 1 class, 2 classes."""
    return f"{number} {noun}{plural if number != 1 else ''}"


def described(left_out: dict[str, int]) -> str:
    """Writes numbers of files by reason, for a message: "3 HEIC, 2 not a picture; convert ...".

    Args:
      left_out: {reason: number of files}, from a Listing.
    """
    text = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
    unread = sorted(left_out.keys() & image_kinds.NAMES)
    return text + (f"; {', '.join(unread)}: {image_kinds.WAY_OUT}" if unread else "")


def summary(
    directory: str,
    sizes: Mapping[str, int],
    num_classes: int | None,
    listing: Listing,
    empty_classes: Sequence[str],
) -> str:
    """Describes in one line what is in a folder.

    Args:
      directory: data_dir.
      sizes: {split: number of pictures}.
      num_classes: None with unlabelled pictures.
      listing: of the folder.
      empty_classes: class folders whose class has no picture in any split.
    """
    counts = ", ".join(f"{split} {count}" for split, count in sizes.items())
    classes = f" in {counted(num_classes, 'class', 'es')}" if num_classes else ""
    text = f"{directory}: {counted(sum(sizes.values()), 'picture')}{classes} ({counts})"
    if listing.left_out:
        first = shown(listing.first_left_out or "")
        text += f"; left out (the first is {first}): {described(listing.left_out)}"
    if empty_classes:
        names = ", ".join(map(shown, empty_classes[:_NAMES_SHOWN]))
        more = len(empty_classes) - _NAMES_SHOWN
        text += f"; no usable picture in {names}" + (f" and {more} more" if more > 0 else "")
    return text


def _inspect(
    directory: str, paths: list[str], kept: KeptListing
) -> tuple[list[Picture], dict[str, int], str | None]:
    """Sorts files into pictures and files that are left out.

    Returns:
      The pictures; {reason: number of files left out}; the path of the first of those. All paths
      are relative to the folder.
    """
    good: list[Picture] = []
    left_out: collections.Counter[str] = collections.Counter()
    first = None
    start = len(os.path.join(directory, ""))
    paths = [path[start:] for path in paths]
    parts = [paths[i : i + _FILES_AT_ONCE] for i in range(0, len(paths), _FILES_AT_ONCE)]
    bar = progress(total=len(paths), desc="looking at files", unit="file")
    with bar, ThreadPoolExecutor(_THREADS) as pool:
        inspected = pool.map(lambda part: [kept.inspect(directory, path) for path in part], parts)
        for part, inspections in zip(parts, inspected, strict=True):
            for path, inspection in zip(part, inspections, strict=True):
                if inspection.complaint is None:
                    good.append(Picture(path, inspection))
                else:
                    left_out[inspection.complaint] += 1
                    first = first or path
            bar.update(len(part))
    return good, dict(left_out), first
