"""--dataset=folder: pictures in a folder, read where they lie.

With labels they lie in data_dir/SPLIT/CLASS/, at any depth below; with --unlabelled anywhere in
data_dir, and make one split, train. What a file is its content says, not its name.
"""

import collections
import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_simclr.data import errors
from tf_simclr.data.sources import (
    boxes,
    fingerprint,
    folder_layout,
    folder_listing,
    image_files,
    image_range,
)
from tf_simclr.data.sources.folder_listing import Picture, counted, shown
from tf_simclr.data.sources.image_files import DEFAULT_LIMITS, Limits
from tf_simclr.data.sources.image_range import ImageRange
from tf_simclr.data.sources.kept_listing import KeptListing
from tf_simclr.data.sources.splits import Splits
from tf_simclr.data.sources.tfds_source import UNLABELLED
from tf_simclr.errors import ConfigError

FOLDER = "folder"
TRAIN = "train"
_NAMES_SHOWN = 5


class FolderSource(Splits):
    """The pictures of a folder, with the interface of `sources.Source`.

    Within a split they have a shuffled order, so that a slice of it is a sample of all classes. The
    order and the ids depend on the paths within the folder alone, not on where the folder lies.

    Attributes:
      name: "folder".
      num_classes: None with unlabelled pictures.
      class_names: the class folders' names over all splits, sorted; None if unlabelled.
      image_shape: (None, None, 3).
      left_out: {reason: number of files that are not used}.
      empty_classes: class folders such as "train/dog" whose class has no picture in any split.
    """

    name = FOLDER
    image_shape = (None, None, 3)

    def __init__(
        self,
        directory: str,
        *,
        unlabelled: bool,
        image_range: ImageRange | None = None,
        max_megapixels: int = DEFAULT_LIMITS.max_megapixels,
        kept: KeptListing | None = None,
    ):
        """Looks at the first bytes of every file, with a progress bar.

        Args:
          directory: data_dir.
          unlabelled: whether all pictures are one split without labels.
          image_range: the values of 16-bit images that become black and white.
          max_megapixels: the largest picture, in millions of pixels.
          kept: looks at the files, within the same limits. None looks at all of them anew.

        Raises:
          ConfigError: the folder has no picture, or not in SPLIT/CLASS/.
        """
        self._directory, self._image_range = directory, image_range
        self._max_megapixels = max_megapixels
        limits = Limits(max_megapixels, image_range is not None)
        self._kept = kept or KeptListing(None, limits)
        listing = folder_listing.list_pictures(directory, unlabelled=unlabelled, kept=self._kept)
        self.left_out, self._first_left_out = listing.left_out, listing.first_left_out
        self.class_names = self.num_classes = None
        if not unlabelled:
            folder_layout.check(directory, [picture.path for picture in listing.pictures])
            self.class_names = tuple(sorted({picture.place[1] for picture in listing.pictures}))
            self.num_classes = len(self.class_names)
        self._labels = {name: label for label, name in enumerate(self.class_names or ())}
        self.empty_classes = [
            folder
            for folder in listing.class_folders
            if os.path.basename(folder) not in self._labels
        ]
        self._files = collections.defaultdict(list)
        for picture in listing.pictures:
            self._files[TRAIN if unlabelled else picture.place[0]].append(picture)
        for files in self._files.values():
            files.sort(key=_shuffling_key)
        self._splits = {
            split: tfds.core.SplitInfo(name=split, shard_lengths=[len(files)], num_bytes=0)
            for split, files in self._files.items()
        }

    @property
    def splits(self) -> Mapping[str, tfds.core.SplitInfo]:
        return self._splits

    def __str__(self):
        """What was found, in one line."""
        sizes = ", ".join(f"{split} {len(files)}" for split, files in self._files.items())
        total = sum(len(files) for files in self._files.values())
        classes = f" in {counted(self.num_classes, 'class', 'es')}" if self.class_names else ""
        text = f"{self._directory}: {counted(total, 'picture')}{classes} ({sizes})"
        if self.left_out:
            text += f"; left out (the first is {shown(self._first_left_out)}): "
            text += folder_listing.described(self.left_out)
        if self.empty_classes:
            names = ", ".join(map(shown, self.empty_classes[:_NAMES_SHOWN]))
            more = len(self.empty_classes) - _NAMES_SHOWN
            text += f"; no usable picture in {names}" + (f" and {more} more" if more > 0 else "")
        return text

    def contents(self) -> dict[str, int]:
        """Numbers of pictures: {"train": 120, "train/cat": 60, ...}."""
        counts = collections.Counter()
        for split, files in self._files.items():
            counts[split] = len(files)
            if self.class_names:
                counts.update(f"{split}/{picture.place[1]}" for picture in files)
        return dict(counts)

    def fingerprint(self) -> int:
        """A number that changes with the pictures' paths, classes and sizes (`fingerprint`).

        A change after the first bytes of a file, which leaves its size as it is, goes unnoticed.
        """
        files = (
            (split, picture.path.replace(os.sep, "/"), *picture.inspection)
            for split in sorted(self._files)
            for picture in self._files[split]
        )
        return fingerprint.digest([self.class_names, *files])

    def encoded_examples(
        self,
        split: str,
        *,
        shuffle_files: bool = False,
        seed: int | tf.Tensor | None = None,
        with_id: bool = False,
    ) -> tf.data.Dataset:
        """Like Source.encoded_examples. The id is the path relative to data_dir.

        With shuffle_files the pictures are mixed. One that has been removed since the folder was
        listed has no bytes, so that it counts as one that cannot be decoded.
        """
        files = []
        for name, start, stop in self.terms(split):
            files += self._files[name][start:stop]
        ids = tf.constant([os.fsencode(picture.path) for picture in files], tf.string)
        labels = tf.constant([self._label(picture) for picture in files], tf.int64)
        directory = os.fsencode(os.path.join(self._directory, ""))
        whole = tf.convert_to_tensor(0 if seed is None else seed, tf.int64)
        halves = tf.stack([whole % 2**31, whole // 2**31])

        def read(index: tf.Tensor) -> dict[str, tf.Tensor]:
            if shuffle_files:
                index = tf.random.experimental.index_shuffle(
                    index, seed=tf.cast(halves, tf.int32), max_index=len(files) - 1
                )
            image = tf.numpy_function(_read, [directory + ids[index]], tf.string, stateful=False)
            example = {"image": tf.ensure_shape(image, ()), "label": labels[index]}
            return example | ({"id": ids[index]} if with_id else {})

        return tf.data.Dataset.range(len(files)).map(
            tf.autograph.experimental.do_not_convert(read),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

    def _label(self, picture: Picture) -> int:
        if self.class_names is None:
            return UNLABELLED
        return self._labels[picture.place[1]]

    def decode(self, encoded: tf.Tensor) -> tf.Tensor:
        """The bytes of a file, string () -> uint8 (h, w, 3), as `image_files.pixels` has it."""
        return image_files.decode(encoded, self._image_range, max_megapixels=self._max_megapixels)

    def decode_boxes(self, encoded: tf.Tensor, draw_boxes: Callable) -> tuple[tf.Tensor, tf.Tensor]:
        """decode(), and boxes in it; `boxes` says more."""
        return boxes.of_whole(self.decode, encoded, draw_boxes)

    def sample_16_bit(self) -> Iterator[np.ndarray]:
        """Values of a few of the 16-bit images, uint16 (h, w, 3)."""
        deep = [
            picture.path
            for files in self._files.values()
            for picture in files
            if picture.inspection.is_16_bit
        ]
        for i in image_range.spread(len(deep)):
            try:
                with open(os.path.join(self._directory, deep[i]), "rb") as file:
                    yield image_files.values_16_bit(file.read())
            except (OSError, tf.errors.OpError):
                pass  # It is counted where it is used.

    def keep_listing(self) -> str | None:
        return self._kept.save()


def open_folder(
    directory: str | None,
    *,
    unlabelled: bool,
    image_range: ImageRange | None = None,
    max_megapixels: int = DEFAULT_LIMITS.max_megapixels,
    model_dir: str | None = None,
    quiet: bool = False,
) -> FolderSource:
    """Opens a folder of pictures and says on stderr what is in it.

    Args:
      directory: data_dir.
      unlabelled: whether all pictures are one split without labels.
      image_range: the values of 16-bit images that become black and white.
      max_megapixels: the largest picture, in millions of pixels.
      model_dir: where an earlier start may have kept a listing (`kept_listing`).
      quiet: say nothing, as a worker that is not the chief.

    Raises:
      ConfigError: there is none, or nothing in it that can be used.
    """
    if not directory:
        raise ConfigError("data_dir must be given with dataset=folder, got None: name the folder")
    if "://" in directory:
        raise ConfigError(
            f"data_dir must be a folder of this machine with dataset=folder, got {directory!r}: "
            "copy it, or make a TFDS data set of it"
        )
    limits = Limits(max_megapixels, image_range is not None)
    source = FolderSource(
        directory,
        unlabelled=unlabelled,
        image_range=image_range,
        max_megapixels=max_megapixels,
        kept=KeptListing(model_dir, limits, same_inode=quiet),
    )
    if not quiet:
        print(source, file=sys.stderr)
    return source


def _read(path: bytes) -> bytes:
    """The bytes of a file; none where the file is gone.

    Raises:
      OSError: it cannot be read, in words that `errors.in_one_line` finds again.
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
                "start again; a run goes on from its last checkpoint"
            )
        ) from error


def _shuffling_key(picture: Picture) -> tuple[bytes, str]:
    """Sorts pictures in an order that has nothing to do with their classes."""
    name = os.fsencode(picture.path.replace(os.sep, "/"))
    return hashlib.blake2b(name, digest_size=16).digest(), picture.path
