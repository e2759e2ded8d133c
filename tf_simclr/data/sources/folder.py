"""--dataset=folder: pictures in a folder, read where they lie.

With labels they lie in data_dir/SPLIT/CLASS/, at any depth below. With --unlabelled they lie
anywhere in data_dir, and form one split, train. The content of a file tells its format, not its
name.
"""

import collections
import itertools
import os
import sys
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_simclr.data.sources import (
    boxes,
    file_tree,
    fingerprint,
    folder_layout,
    folder_listing,
    image_decoding,
    image_range,
    index_order,
)
from tf_simclr.data.sources.folder_listing import Listing, Picture
from tf_simclr.data.sources.image_files import DEFAULT_LIMITS, Limits
from tf_simclr.data.sources.image_range import ImageRange
from tf_simclr.data.sources.kept_listing import KeptListing
from tf_simclr.data.sources.protocol import UNLABELED, DrawBoxes
from tf_simclr.data.sources.splits import Splits
from tf_simclr.errors import ConfigError

FOLDER = "folder"
TRAIN = "train"


class FolderSource(Splits):
    """The pictures of a folder, a `protocol.Source`.

    Within a split they have a shuffled order, so a slice of it is a sample of all classes. The
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
    reads_in_this_process = True

    def __init__(
        self,
        directory: str,
        *,
        unlabelled: bool,
        image_range: ImageRange | None = None,
        max_megapixels: int = DEFAULT_LIMITS.max_megapixels,
        kept: KeptListing | None = None,
    ):
        """Inspects the first bytes of every file, with a progress bar.

        Args:
          directory: data_dir.
          unlabelled: whether all pictures are one split without labels.
          image_range: the values of 16-bit images that become black and white.
          max_megapixels: the largest picture, in millions of pixels.
          kept: inspects the files, within the same limits. None inspects all of them.

        Raises:
          ConfigError: the folder has no picture, or none in SPLIT/CLASS/.
        """
        self._directory, self._image_range = directory, image_range
        self._max_megapixels = max_megapixels
        limits = Limits(max_megapixels, image_range is not None)
        self._kept = kept or KeptListing(None, limits)
        self._listing = folder_listing.list_pictures(
            directory, unlabelled=unlabelled, kept=self._kept
        )
        self.left_out = self._listing.left_out
        self.class_names = None if unlabelled else _class_names(directory, self._listing)
        self.num_classes = None if self.class_names is None else len(self.class_names)
        self._labels = {name: label for label, name in enumerate(self.class_names or ())}
        folders = self._listing.class_folders
        self.empty_classes = [f for f in folders if os.path.basename(f) not in self._labels]
        self._files: dict[str, list[Picture]] = collections.defaultdict(list)
        for picture in self._listing.pictures:
            self._files[TRAIN if unlabelled else picture.split_and_class[0]].append(picture)
        for files in self._files.values():
            files.sort(key=lambda picture: picture.shuffling_key)
        self._splits = {
            split: tfds.core.SplitInfo(name=split, shard_lengths=[len(files)], num_bytes=0)
            for split, files in self._files.items()
        }

    @property
    def splits(self) -> Mapping[str, tfds.core.SplitInfo]:
        return self._splits

    def __str__(self) -> str:
        """Describes in one line what is in the folder."""
        sizes = {split: len(files) for split, files in self._files.items()}
        return folder_listing.summary(
            self._directory, sizes, self.num_classes, self._listing, self.empty_classes
        )

    def contents(self) -> dict[str, int]:
        """Counts the pictures: {"train": 120, "train/cat": 60, ...}."""
        counts: collections.Counter[str] = collections.Counter()
        for split, files in self._files.items():
            counts[split] = len(files)
            if self.class_names:
                counts.update("/".join(picture.split_and_class) for picture in files)
        return dict(counts)

    def fingerprint(self) -> int:
        """Returns a number that changes with the pictures' paths, classes and sizes.

        It does not notice a change after the first bytes of a file that leaves its size unchanged.
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
        """Reads a split once (`protocol.Source`). The id is the path relative to data_dir.

        A picture that was removed after the folder was listed has no bytes, so it counts as one
        that cannot be decoded.
        """
        files = []
        for name, start, stop in self.terms(split):
            files += self._files[name][start:stop]
        ids = tf.constant([os.fsencode(picture.path) for picture in files], tf.string)
        labels = tf.constant([self._label(picture) for picture in files], tf.int64)
        directory = os.fsencode(os.path.join(self._directory, ""))

        def read(index: tf.Tensor) -> dict[str, tf.Tensor]:
            if shuffle_files:
                index = index_order.shuffled(index, seed, len(files))
            image = tf.numpy_function(
                file_tree.read, [directory + ids[index]], tf.string, stateful=False
            )
            example = {"image": tf.ensure_shape(image, ()), "label": labels[index]}
            return example | ({"id": ids[index]} if with_id else {})

        return tf.data.Dataset.range(len(files)).map(
            tf.autograph.experimental.do_not_convert(read),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

    def _label(self, picture: Picture) -> int:
        if self.class_names is None:
            return UNLABELED
        return self._labels[picture.split_and_class[1]]

    def decode(self, encoded: tf.Tensor) -> tf.Tensor:
        """Decodes the bytes of a file, string () -> uint8 (h, w, 3) (`image_decoding.pixels`)."""
        return image_decoding.decode(
            encoded, self._image_range, max_megapixels=self._max_megapixels
        )

    def decode_boxes(
        self, encoded: tf.Tensor, draw_boxes: DrawBoxes
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Decodes an image whole, and draws boxes in it (`boxes`)."""
        return boxes.of_whole(self.decode, encoded, draw_boxes)

    def sample_16_bit(self) -> Iterator[np.ndarray]:
        """Yields the values of a few of the 16-bit images, uint16 (h, w, 3)."""
        pictures = itertools.chain.from_iterable(self._files.values())
        deep = [picture.path for picture in pictures if picture.inspection.is_16_bit]
        for i in image_range.spread(len(deep)):
            try:
                with open(os.path.join(self._directory, deep[i]), "rb") as file:
                    yield image_decoding.values_16_bit(file.read())
            except (OSError, tf.errors.OpError):
                pass  # It is counted where it is used.

    def keep_listing(self) -> str | None:
        """Keeps for the next start what the inspection of the files has found (`kept_listing`)."""
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
      quiet: say nothing; for a worker that is not the chief.

    Raises:
      ConfigError: there is no folder, or nothing in it that can be used.
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


def _class_names(directory: str, listing: Listing) -> tuple[str, ...]:
    """Returns the sorted names of the classes that have pictures, after checking the layout."""
    folder_layout.check(directory, [picture.path for picture in listing.pictures])
    return tuple(sorted({picture.split_and_class[1] for picture in listing.pictures}))
