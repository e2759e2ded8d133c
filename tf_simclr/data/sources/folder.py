"""--dataset=folder: images in a folder, read in place.

Labeled images are in data_dir/SPLIT/CLASS/, at any depth below. With --unlabelled, images may be
anywhere in data_dir and form one split, train. The format is detected from the content of a file,
not from its name.
"""

import collections
import contextlib
import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence

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
from tf_simclr.data.sources.folder_listing import ImageFile
from tf_simclr.data.sources.image_files import DEFAULT_LIMITS, Limits
from tf_simclr.data.sources.image_range import ImageRange
from tf_simclr.data.sources.kept_listing import InspectionCache
from tf_simclr.data.sources.protocol import UNLABELED, DrawBoxes
from tf_simclr.data.sources.splits import Splits
from tf_simclr.errors import ConfigError

FOLDER = "folder"
TRAIN = "train"


class FolderSource(Splits):
    """The images of a folder, a `protocol.Source`.

    Each split is shuffled, so a slice samples all classes. The order and the ids depend only on the
    paths within the folder, not on the location of the folder.

    Attributes:
      name: "folder".
      num_classes: None with unlabeled images.
      class_names: the class folders' names over all splits, sorted; None if unlabeled.
      image_shape: (None, None, 3).
      left_out: {reason: number of files that are not used}.
      empty_classes: class folders such as "train/dog" whose class has no image in any split.
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
        kept: InspectionCache | None = None,
    ):
        """Inspects the first bytes of every file, with a progress bar.

        Args:
          directory: data_dir.
          unlabelled: whether all images are one split without labels.
          image_range: the values of 16-bit images that become black and white.
          max_megapixels: the largest image, in millions of pixels.
          kept: cache of earlier inspections, with the same limits. None inspects every file.

        Raises:
          ConfigError: the folder has no image, or none in SPLIT/CLASS/.
        """
        self._directory, self._image_range = directory, image_range
        self._max_megapixels = max_megapixels
        limits = Limits(max_megapixels, image_range is not None)
        self._kept = kept or InspectionCache(None, limits)
        self._listing = folder_listing.list_images(
            directory, unlabelled=unlabelled, kept=self._kept
        )
        self.left_out = self._listing.left_out
        paths = [image.path for image in self._listing.images]
        self.class_names = None if unlabelled else folder_layout.class_names(directory, paths)
        self.num_classes = None if self.class_names is None else len(self.class_names)
        self._labels = {name: label for label, name in enumerate(self.class_names or ())}
        folders = self._listing.class_folders
        self.empty_classes = [f for f in folders if os.path.basename(f) not in self._labels]
        self._files: dict[str, list[ImageFile]] = collections.defaultdict(list)
        for image in self._listing.images:
            self._files[TRAIN if unlabelled else image.split_and_class[0]].append(image)
        for files in self._files.values():
            files.sort(key=lambda image: image.shuffling_key)
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
        """Counts the images: {"train": 120, "train/cat": 60, ...}."""
        counts: collections.Counter[str] = collections.Counter()
        for split, files in self._files.items():
            counts[split] = len(files)
            if self.class_names:
                counts.update("/".join(image.split_and_class) for image in files)
        return dict(counts)

    def fingerprint(self) -> int:
        """Returns a number that changes with the images' paths, classes and sizes.

        It misses changes beyond a file's first bytes that keep its size.
        """
        files = (
            (split, image.path.replace(os.sep, "/"), *image.inspection)
            for split in sorted(self._files)
            for image in self._files[split]
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

        An image that was deleted after the folder was listed is read as b"". It then counts as an
        image that cannot be decoded.
        """
        files = self._images(split)
        ids = tf.constant([os.fsencode(image.path) for image in files], tf.string)
        labels = tf.constant([self._label(image) for image in files], tf.int64)
        directory = os.fsencode(os.path.join(self._directory, ""))

        def read(index: tf.Tensor) -> dict[str, tf.Tensor]:
            if shuffle_files:
                index = index_order.shuffled_index(index, seed, len(files))
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

    def example_names(self, split: str, positions: Sequence[int]) -> list[str]:
        """Returns the paths relative to data_dir. Bytes that are not UTF-8 become \\xNN."""
        files = self._images(split)
        paths = (os.fsencode(files[position].path) for position in positions)
        return [path.decode("utf-8", "backslashreplace") for path in paths]

    def _images(self, split: str) -> list[ImageFile]:
        return [f for name, start, stop in self.terms(split) for f in self._files[name][start:stop]]

    def _label(self, image: ImageFile) -> int:
        if self.class_names is None:
            return UNLABELED
        return self._labels[image.split_and_class[1]]

    def decode(self, encoded: tf.Tensor) -> tf.Tensor:
        """Decodes the bytes of a file, string () -> uint8 (h, w, 3) (`image_decoding.pixels`)."""
        return image_decoding.decode(
            encoded, self._image_range, max_megapixels=self._max_megapixels
        )

    def decode_boxes(
        self, encoded: tf.Tensor, draw_boxes: DrawBoxes
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Decodes a whole image and draws boxes in it (`boxes`)."""
        return boxes.decode_image(self.decode, encoded, draw_boxes)

    def sample_16_bit(self) -> Iterator[np.ndarray]:
        """Yields the values of a few of the 16-bit images, uint16 (h, w, 3)."""
        images = itertools.chain.from_iterable(self._files.values())
        paths_16_bit = [image.path for image in images if image.inspection.is_16_bit]
        for i in image_range.evenly_spaced(len(paths_16_bit)):
            path = os.path.join(self._directory, paths_16_bit[i])
            # Reading the split counts a file that cannot be read.
            with contextlib.suppress(OSError, tf.errors.OpError), open(path, "rb") as file:
                yield image_decoding.values_16_bit(file.read())

    def keep_listing(self) -> str | None:
        """Saves the inspections of the files for the next start (`kept_listing`)."""
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
    """Opens a folder of images and prints on stderr what is in it.

    Args:
      directory: data_dir.
      unlabelled: whether all images are one split without labels.
      image_range: the values of 16-bit images that become black and white.
      max_megapixels: the largest image, in millions of pixels.
      model_dir: where an earlier start may have kept a listing (`kept_listing`).
      quiet: print nothing (on workers other than the chief).

    Raises:
      ConfigError: the folder does not exist, or holds no image that can be used.
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
        kept=InspectionCache(model_dir, limits, same_inode=quiet),
    )
    if not quiet:
        print(source, file=sys.stderr)
    return source
