"""The images of a folder: which of its files are used, and why the rest is left out."""

import collections
import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tf_simclr.console import progress
from tf_simclr.data.sources import file_tree, image_files, image_kinds
from tf_simclr.data.sources.kept_listing import InspectionCache
from tf_simclr.errors import ConfigError, listed

_NAMES_SHOWN = 5
_THREADS = 16
_FILES_AT_ONCE = 64  # for one thread; handing out single files would cost as much as reading them


class ImageFile(NamedTuple):
    """An image file that is used.

    Attributes:
      path: relative to data_dir. It is the example's id.
      inspection: what was learned from its first bytes.
    """

    path: str
    inspection: image_files.Inspection

    @property
    def is_in_class_folder(self) -> bool:
        """Returns whether the file is in SPLIT/CLASS/, at any depth below."""
        return self.path.count(os.sep) >= 2

    @property
    def split_and_class(self) -> tuple[str, str]:
        """Returns the names of the file's split and class, if it is in SPLIT/CLASS/."""
        split, class_name, *_ = self.path.split(os.sep)
        return split, class_name

    @property
    def shuffling_key(self) -> tuple[bytes, str]:
        """Returns a sort key that is unrelated to the class."""
        name = os.fsencode(self.path.replace(os.sep, "/"))
        return hashlib.blake2b(name, digest_size=16).digest(), self.path


class Listing(NamedTuple):
    """The content of a folder. All paths are relative to it.

    Attributes:
      images: the files that are used.
      left_out: {reason: number of files that are not used}. For an image format that cannot be
        read, the reason is the name of the format.
      first_left_out: the path of the first of these files; None if there is none.
      class_folders: folders such as "train/cat", with or without images in them.
    """

    images: list[ImageFile]
    left_out: dict[str, int]
    first_left_out: str | None
    class_folders: list[str]


def list_images(directory: str, *, unlabelled: bool, kept: InspectionCache) -> Listing:
    """Inspects the first bytes of every new or changed file, with a progress bar.

    Args:
      directory: data_dir.
      unlabelled: whether images may be anywhere in it, and not only in SPLIT/CLASS/.
      kept: inspects the files, and remembers earlier inspections.

    Raises:
      ConfigError: there is no image, or none in SPLIT/CLASS/.
    """
    class_folders: list[str] = []
    if unlabelled:
        paths = list(file_tree.walk(directory))
    else:
        paths, class_folders = file_tree.walk_labeled(directory)
    images, left_out, first = _inspect(directory, paths, kept)
    if not images:
        reasons = f" ({format_reasons(left_out)})" if left_out else ""
        raise ConfigError(
            f"data_dir {directory!r} has no picture ({image_files.FORMAT_NAMES}) among its "
            f"{len(paths)} files{reasons}: use another folder"
        )
    if unlabelled:
        return Listing(images, left_out, first, class_folders)
    misplaced = [image for image in images if not image.is_in_class_folder]
    if len(misplaced) == len(images):
        raise ConfigError(
            f"data_dir {directory!r} holds {pluralize(len(images), 'picture')}, but none in "
            f"SPLIT/CLASS/ such as train/cat/ (the first is {format_path(images[0].path)}): sort "
            "them like that, or set --unlabelled to pretrain without labels"
        )
    if misplaced:
        left_out["not in SPLIT/CLASS/"] = len(misplaced)
        first = first or misplaced[0].path
        images = [image for image in images if image.is_in_class_folder]
    return Listing(images, left_out, first, class_folders)


def format_path(path: str) -> str:
    """Formats a path for a message, in one line and without control characters."""
    return repr(path).strip("'\"")


def pluralize(number: int, noun: str, plural: str = "s") -> str:
    """Formats a number with its noun, for a message: 1 class, 2 classes."""
    return f"{number} {noun}{plural if number != 1 else ''}"


def format_reasons(left_out: dict[str, int]) -> str:
    """Formats numbers of files by reason, for a message: "3 HEIC, 2 not a picture; convert ...".

    Args:
      left_out: {reason: number of files}, from a Listing.
    """
    text = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
    unsupported = sorted(left_out.keys() & image_kinds.NAMES)
    return text + (f"; {', '.join(unsupported)}: {image_kinds.WAY_OUT}" if unsupported else "")


def summary(
    directory: str,
    sizes: Mapping[str, int],
    num_classes: int | None,
    listing: Listing,
    empty_classes: Sequence[str],
) -> str:
    """Describes the content of a folder in one line.

    Args:
      directory: data_dir.
      sizes: {split: number of images}.
      num_classes: None with unlabeled images.
      listing: the folder's listing.
      empty_classes: class folders whose class has no image in any split.
    """
    counts = ", ".join(f"{split} {count}" for split, count in sizes.items())
    classes = f" in {pluralize(num_classes, 'class', 'es')}" if num_classes else ""
    text = f"{directory}: {pluralize(sum(sizes.values()), 'picture')}{classes} ({counts})"
    if listing.left_out:
        first = format_path(listing.first_left_out or "")
        text += f"; left out (the first is {first}): {format_reasons(listing.left_out)}"
    if empty_classes:
        names = listed(map(format_path, empty_classes), limit=_NAMES_SHOWN)
        text += f"; no usable picture in {names}"
    return text


def _inspect(
    directory: str, paths: list[str], kept: InspectionCache
) -> tuple[list[ImageFile], dict[str, int], str | None]:
    """Sorts files into images and files that are left out.

    Returns:
      The images; {reason: number of files left out}; the path of the first file left out. All paths
      are relative to the folder.
    """
    images: list[ImageFile] = []
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
                    images.append(ImageFile(path, inspection))
                else:
                    left_out[inspection.complaint] += 1
                    first = first or path
            bar.update(len(part))
    return images, dict(left_out), first
