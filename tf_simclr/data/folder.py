"""--dataset=folder: pictures in a folder, read where they lie.

With labels they lie in data_dir/SPLIT/CLASS/, at any depth below; with --unlabelled anywhere in
data_dir, and make one split, train. What a file is its content says, not its name.
"""

import collections
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from tf_simclr.config import ConfigError
from tf_simclr.data import boxes, image_files
from tf_simclr.data.sources import UNLABELLED
from tf_simclr.data.splits import Splits

FOLDER = "folder"
TRAIN = "train"
_THREADS = 16
_IGNORED = ("__MACOSX", "Thumbs.db", "desktop.ini")


class FolderSource(Splits):
    """The pictures of a folder, with the interface of `sources.Source`.

    Attributes:
      name: "folder".
      num_classes: None with unlabelled pictures.
      class_names: the class folders' names over all splits, sorted; None if unlabelled.
      image_shape: (None, None, 3).
      left_out: {reason: number of files that are not used}.
    """

    name = FOLDER
    image_shape = (None, None, 3)

    def __init__(self, directory: str, *, unlabelled: bool):
        """Looks at the first bytes of every file, with a progress bar.

        Raises:
          ConfigError: the folder has no picture, or not in SPLIT/CLASS/.
        """
        self._directory = directory
        paths = list(walk(directory))
        good, self.left_out, first = _inspect(paths)
        placed = {path: _place(path, directory, unlabelled) for path in good}
        misplaced = [path for path, place in placed.items() if place is None]
        if misplaced and len(misplaced) == len(good):
            raise ConfigError(
                f"data_dir {directory!r} holds {len(good)} pictures, but none in SPLIT/CLASS/ such "
                f"as train/cat/ (the first is {_shown(misplaced[0], directory)}): sort them so, "
                "or pretrain without labels by --unlabelled"
            )
        if not good:
            raise ConfigError(
                f"data_dir {directory!r} has no picture (JPEG, PNG, WebP, BMP or GIF) among its "
                f"{len(paths)} files: name another folder"
            )
        if misplaced:
            self.left_out["not in SPLIT/CLASS/"] = len(misplaced)
            first = first or misplaced[0]
        self.class_names = self.num_classes = None
        if not unlabelled:
            self.class_names = tuple(sorted({p[1] for p in placed.values() if p}))
            self.num_classes = len(self.class_names)
        self._files = collections.defaultdict(list)
        for path, place in placed.items():
            if place:
                split, name = place
                label = UNLABELLED if unlabelled else self.class_names.index(name)
                self._files[split].append((os.fsencode(path), label))
        self._splits = {
            split: tfds.core.SplitInfo(name=split, shard_lengths=[len(files)], num_bytes=0)
            for split, files in self._files.items()
        }
        self._first_left_out = first

    @property
    def splits(self) -> Mapping[str, tfds.core.SplitInfo]:
        return self._splits

    def __str__(self):
        """What was found, in one line."""
        sizes = ", ".join(f"{split} {len(files)}" for split, files in self._files.items())
        total = sum(len(files) for files in self._files.values())
        classes = f" in {self.num_classes} classes" if self.class_names else ""
        text = f"{self._directory}: {total} pictures{classes} ({sizes})"
        if self.left_out:
            reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(self.left_out.items()))
            first = _shown(self._first_left_out, self._directory)
            text += f"; left out: {reasons} (the first is {first})"
        return text

    def encoded_examples(
        self,
        split: str,
        *,
        shuffle_files: bool = False,
        seed: int | tf.Tensor | None = None,
        with_id: bool = False,
    ) -> tf.data.Dataset:
        """Like Source.encoded_examples; the id is the path. shuffle_files mixes the pictures."""
        files = []
        for name, start, stop in self.terms(split):
            files += self._files[name][start:stop]
        paths = tf.constant([path for path, _ in files], tf.string)
        labels = tf.constant([label for _, label in files], tf.int64)
        whole = tf.convert_to_tensor(0 if seed is None else seed, tf.int64)
        halves = tf.stack([whole % 2**31, whole // 2**31])

        def read(index: tf.Tensor) -> dict[str, tf.Tensor]:
            if shuffle_files:
                index = tf.random.experimental.index_shuffle(
                    index, seed=tf.cast(halves, tf.int32), max_index=len(files) - 1
                )
            example = {"image": tf.io.read_file(paths[index]), "label": labels[index]}
            return example | ({"id": paths[index]} if with_id else {})

        return tf.data.Dataset.range(len(files)).map(
            tf.autograph.experimental.do_not_convert(read),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

    def decode(self, encoded: tf.Tensor) -> tf.Tensor:
        """The bytes of a file, string () -> uint8 (h, w, 3), as `image_files.pixels` has it."""
        return image_files.decode(encoded)

    def decode_boxes(
        self, encoded: tf.Tensor, draw_boxes: Callable
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """decode(), and boxes in it; `boxes` says more."""
        return boxes.of_whole(self.decode, encoded, draw_boxes)


def open_folder(directory: str | None, *, unlabelled: bool) -> FolderSource:
    """Opens a folder of pictures and says on stderr what is in it.

    Raises:
      ConfigError: there is none, or nothing in it that can be used.
    """
    if not directory:
        raise ConfigError("data_dir must be given with dataset=folder, got None: name the folder")
    if "://" in directory:
        raise ConfigError(f"data_dir must be a folder of this machine with dataset=folder, got "
                          f"{directory!r}: copy it, or make a TFDS data set of it")  # fmt: skip
    source = FolderSource(directory, unlabelled=unlabelled)
    print(source, file=sys.stderr)
    return source


def walk(directory: str) -> Iterator[str]:
    """All files at any depth, in a fixed order, but for hidden ones and what systems leave behind.

    Links to folders are followed, each folder once.
    """
    seen = set()
    for parent, folders, names in os.walk(directory, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in _IGNORED)
        for name in sorted(names):
            if not name.startswith(".") and name not in _IGNORED:
                yield os.path.join(parent, name)


def _inspect(paths: list[str]) -> tuple[list[str], dict[str, int], str | None]:
    """The paths of pictures, how many of the others there are by reason, and the first of those."""
    good, left_out, first = [], collections.Counter(), None
    with ThreadPoolExecutor(_THREADS) as pool:
        reasons = tqdm(
            pool.map(image_files.complaint, paths), total=len(paths), delay=1, leave=False,
            desc="looking at files", unit="file",
        )  # fmt: skip
        for path, reason in zip(paths, reasons, strict=True):
            if reason is None:
                good.append(path)
            else:
                left_out[reason] += 1
                first = first or path
    return good, dict(left_out), first


def _place(path: str, directory: str, unlabelled: bool) -> tuple[str, str] | None:
    """(split, class) of a file; None where it does not lie in SPLIT/CLASS/."""
    if unlabelled:
        return TRAIN, ""
    parts = os.path.relpath(path, directory).split(os.sep)
    return (parts[0], parts[1]) if len(parts) > 2 else None


def _shown(path: str, directory: str) -> str:
    """A path for a message: within the folder, in one line, whatever bytes it is made of."""
    return repr(os.path.relpath(path, directory)).strip("'\"")
