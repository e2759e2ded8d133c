"""Where images come from: any TFDS data set with an image feature, or the built-in "shapes"."""

import dataclasses
import difflib
import logging
import pathlib
import shutil
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core import naming

from tf_simclr.data.sources import array_records, boxes, fingerprint, tfds_features
from tf_simclr.data.sources import image_range as ranges
from tf_simclr.data.sources.image_range import ImageRange
from tf_simclr.data.sources.splits import Splits
from tf_simclr.errors import ConfigError, one_line

SHAPES = "shapes"
UNLABELLED = -1


@dataclasses.dataclass(frozen=True)
class Source(Splits):
    """A prepared data set.

    Attributes:
      name: as given to --dataset.
      num_classes: None if the data set is unlabelled.
      class_names: one for each class, None if unlabelled.
      image_shape: (height or None, width or None, channels) as stored.
      image_range: the values of 16-bit images that become black and white.
      label_note: why there are no labels where somebody might expect them, or "".
    """

    name: str
    num_classes: int | None
    class_names: tuple[str, ...] | None
    image_shape: tuple[int | None, int | None, int]
    _builder: Any = dataclasses.field(repr=False, compare=False)
    _image_key: str = dataclasses.field(repr=False)
    _label_key: str | None = dataclasses.field(repr=False)
    image_range: ImageRange | None = None
    label_note: str = ""

    @property
    def splits(self):
        return self._builder.info.splits

    def contents(self) -> dict[str, Any]:
        """What tells one version of a data set from another, and its numbers of examples."""
        about = {"data set": self._builder.info.full_name, "classes": self.num_classes}
        return about | {name: info.num_examples for name, info in self.splits.items()}

    def fingerprint(self) -> int:
        """A number that changes with the data set's contents and class names (`fingerprint`)."""
        return fingerprint.digest([self.class_names, *sorted(self.contents().items())])

    def encoded_examples(
        self,
        split: str,
        *,
        shuffle_files: bool = False,
        seed: int | tf.Tensor | None = None,
        with_id: bool = False,
    ) -> tf.data.Dataset:
        """One pass of {'image': string (), 'label': int64 ()}: images as stored, for decode().

        The order is a function of the arguments alone: with shuffle_files the files are read in an
        order given by seed (an integer or an int64 scalar). Labels are -1 where there are none.
        with_id adds 'id', TFDS's string () of the file and the place in it.
        """
        keys = {"image": self._image_key}
        if self._label_key:
            keys["label"] = self._label_key
        decoding = tfds.decode.PartialDecoding(
            dict.fromkeys(keys.values(), True),
            decoders={self._image_key: tfds.decode.SkipDecoding()},
        )
        if array_records.is_stored_so(self._builder):
            dataset = array_records.examples(
                self._builder,
                self.terms(split),
                decoding,
                shuffle=shuffle_files,
                seed=seed,
                with_id=with_id,
            )
        else:
            dataset = self._read(split, decoding, shuffle_files, seed, with_id)
        if keys == {"image": "image", "label": "label"} and not with_id:
            return dataset  # A map that changes nothing costs 3 % of the throughput at 32 pixels.
        unlabelled = tf.constant(UNLABELLED, tf.int64)
        return dataset.map(
            lambda example: {
                "image": example[keys["image"]],
                "label": tf.cast(example[keys["label"]], tf.int64)
                if "label" in keys
                else unlabelled,
                **({"id": example["tfds_id"]} if with_id else {}),
            }
        )

    def _read(self, split: str, decoding, shuffle_files: bool, seed, with_id: bool):
        """Examples as TFDS reads them, of the features that `decoding` names."""
        options = tf.data.Options()
        options.deterministic = True
        return self._builder.as_dataset(
            split=split,
            shuffle_files=shuffle_files,
            read_config=tfds.ReadConfig(
                options=options,
                shuffle_seed=seed,
                shuffle_reshuffle_each_iteration=False,
                try_autocache=False,
                add_tfds_id=with_id,
            ),
            decoders=decoding,
        )

    @property
    def reads_in_this_process(self) -> bool:
        """Whether the files can be read in this process only, and by no tf.data service."""
        return array_records.is_stored_so(self._builder)

    @property
    def _image_feature(self) -> Any:
        return self._builder.info.features[self._image_key]

    def sample_16_bit(self) -> Iterator[np.ndarray]:
        """Values of a few images of the largest split, uint16 (h, w, channels); none of 8 bits."""
        if self._image_feature.np_dtype != np.uint16:
            return
        name, info = max(self.splits.items(), key=lambda item: item[1].num_examples)
        # One after the other: reading "a[1:2]+a[9:10]" at once would open as many files.
        for i in ranges.spread(info.num_examples):
            for example in self.encoded_examples(f"{name}[{i}:{i + 1}]"):
                try:
                    yield self._image_feature.decode_example(example["image"]).numpy()
                except tf.errors.OpError:
                    pass  # It is counted where it is used.

    def decode(self, encoded: tf.Tensor) -> tf.Tensor:
        """Image bytes, a string scalar -> uint8 (h, w, 3).

        Grayscale is repeated, alpha dropped. 16 bits are scaled to 8, from image_range if it is
        given.
        """
        image = self._image_feature.decode_example(encoded)
        if image.dtype == tf.uint16 and self.image_range:
            image = ranges.tensor_to_8_bits(image, self.image_range)
        else:
            image = tf.image.convert_image_dtype(image, tf.uint8)
        if self.image_shape[-1] == 1:
            image = tf.repeat(image, 3, axis=-1)
        return tf.ensure_shape(image[..., :3], (*self.image_shape[:2], 3))

    def decode_boxes(self, encoded: tf.Tensor, draw_boxes: Callable) -> tuple[tf.Tensor, tf.Tensor]:
        """decode(), of a JPEG only rows, and boxes in it; `boxes` says more."""
        if self.image_shape != (None, None, 3) or self._image_feature.np_dtype != np.uint8:
            return boxes.of_whole(self.decode, encoded, draw_boxes)
        return boxes.of_rows(self.decode, encoded, draw_boxes)

    def examples(
        self, split: str, *, shuffle_files: bool = False, seed: int | tf.Tensor | None = None
    ) -> tf.data.Dataset:
        """One pass of {'image': uint8 (h, w, 3), 'label': int64 ()}; see encoded_examples."""
        return self.encoded_examples(split, shuffle_files=shuffle_files, seed=seed).map(
            lambda example: {**example, "image": self.decode(example["image"])},
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )


def open_source(
    dataset: str,
    data_dir: str | None = None,
    *,
    image_range: ImageRange | None = None,
    image_key: str | None = None,
    label_key: str | None = None,
) -> Source:
    """Opens a data set, downloading and preparing it first if it is not there.

    Files in data_dir come first, in whatever version they are: no code of the data set and no
    network is then needed.

    Args:
      dataset: a TFDS name, "name", "name/config" or "name:version", or "shapes".
      data_dir: where TFDS keeps its data sets; None for TFDS's own default.
      image_range: the values of 16-bit images that become black and white.
      image_key: name of the feature that holds the image (`tfds_features.choose`).
      label_key: name of the feature that holds the class.

    Returns:
      A Source.

    Raises:
      ConfigError: one line, for every way in which this fails.
    """
    if dataset == SHAPES:
        from tf_simclr.data.sources import shapes

        try:
            builder = shapes.prepare(data_dir)
        except OSError as error:
            raise ConfigError(_cannot_write(dataset, data_dir, error)) from error
    else:
        builder = _from_files(dataset, data_dir) or _from_code(dataset, data_dir)
    keys = tfds_features.choose(dataset, builder.info, image_key=image_key, label_key=label_key)
    if array_records.is_stored_so(builder):
        array_records.check(dataset)
    return dataclasses.replace(_describe(dataset, builder, keys), image_range=image_range)


def is_prepared(dataset: str, data_dir: str | None = None) -> bool:
    """Whether open_source needs no download: the data set is on disk, or embedded."""
    return dataset == SHAPES or _from_files(dataset, data_dir) is not None


def _from_files(dataset: str, data_dir: str | None) -> Any | None:
    """A read-only builder of what is on disk, or None."""
    try:
        name, kwargs = naming.parse_builder_name_kwargs(dataset)
        if name.namespace or set(kwargs) - {"config", "version"}:
            return None
        with tfds_features.only_own(dataset):
            builder = tfds.core.read_only_builder.builder_from_files(
                str(name), data_dir=data_dir, **kwargs
            )
    except ConfigError:
        raise
    except (tfds.core.DatasetNotFoundError, ValueError):
        return None
    return builder


def _from_code(dataset: str, data_dir: str | None) -> Any:
    """The builder from TFDS's registered code, downloaded and prepared."""
    try:
        builder = tfds.builder(dataset, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise ConfigError(_unknown_name(dataset)) from error
    except ImportError as error:
        raise ConfigError(_missing_package(dataset, error)) from error
    except OSError as error:
        raise ConfigError(_cannot_write(dataset, data_dir, error)) from error
    except Exception as error:  # TFDS has no common class for a bad config or version
        raise ConfigError(f"--dataset={dataset} cannot be opened: {one_line(error)}") from error
    if not builder.is_prepared():
        _prepare(dataset, builder)
    return builder


def _prepare(dataset: str, builder: Any) -> None:
    root = pathlib.Path(builder.data_dir_root)
    downloads = root / "downloads"
    made = [path for path in (root, root / builder.name) if not path.exists()]
    try:
        _check_manual(dataset, builder, downloads / "manual")
        _check_network(dataset, builder, downloads)
        builder.download_and_prepare()
    except BaseException as error:
        for path in reversed(made):
            # Complete archives are kept: they took hours, and a second try reuses them.
            if path != root or not any(file.is_file() for file in downloads.rglob("*")):
                shutil.rmtree(path, ignore_errors=True)
        if isinstance(error, ConfigError) or not isinstance(error, Exception):
            raise
        if isinstance(error, ImportError):
            raise ConfigError(_missing_package(dataset, error)) from error
        if isinstance(error, PermissionError | FileExistsError | NotADirectoryError):
            raise ConfigError(_cannot_write(dataset, str(root), error)) from error
        raise ConfigError(
            f"--dataset={dataset} could not be downloaded and prepared in --data_dir={root} "
            f"({one_line(error)}): prepare it on a machine with network access and point "
            f"--data_dir at it, or use --dataset={SHAPES}"
        ) from error


def _check_manual(dataset: str, builder: Any, folder: pathlib.Path) -> None:
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS and not any(folder.glob("*")):
        raise ConfigError(
            f"--dataset={dataset} is not in --data_dir={folder.parents[1]} and must be downloaded "
            f"by hand: put its archives into {folder} (see "
            f"https://www.tensorflow.org/datasets/catalog/{builder.name}), or point --data_dir at "
            "a folder where it is prepared"
        )


def _check_network(dataset: str, builder: Any, downloads: pathlib.Path) -> None:
    """Fails at once where TFDS would retry each address for minutes."""
    if urllib.request.getproxies() or any(downloads.glob("*")):
        return  # A proxy resolves names itself; archives that are there need no network.
    hosts = {urllib.parse.urlparse(url).hostname for url in builder.url_infos or ()}
    for host in sorted(hosts - {None}):
        try:
            socket.getaddrinfo(host, None)
        except OSError as error:
            raise ConfigError(
                f"--dataset={dataset} is not in --data_dir={downloads.parent} and cannot be "
                f"downloaded, {host} cannot be reached: point --data_dir at a folder where it is "
                f"prepared, or use --dataset={SHAPES}"
            ) from error


def _describe(dataset: str, builder: Any, keys: tfds_features.Chosen) -> Source:
    features = builder.info.features
    image = features[keys.image_key]
    shape, dtype = image.shape, tf.as_dtype(image.tf_dtype)
    if shape[-1] not in (1, 3, 4) or dtype not in (tf.uint8, tf.uint16):
        raise ConfigError(
            f"--dataset={dataset} has images of {shape[-1]} channels in {dtype.name}: choose one "
            "with 1, 3 or 4 channels in uint8 or uint16"
        )
    label = features[keys.label_key] if keys.label_key else None
    if label and label.num_classes is None:
        raise ConfigError(
            f"--dataset={dataset} does not say how many classes its label {keys.label_key!r} has: "
            "prepare it with tfds.features.ClassLabel(num_classes=...)"
        )
    logging.getLogger(__name__).info("%s: %s", dataset, builder.data_dir)
    return Source(
        name=dataset,
        num_classes=label.num_classes if label else None,
        class_names=tuple(label.names) if label else None,
        image_shape=tuple(shape),
        _builder=builder,
        _image_key=keys.image_key,
        _label_key=keys.label_key,
        label_note=keys.label_note,
    )


def _unknown_name(dataset: str) -> str:
    name = dataset.split("/")[0].split(":")[0]
    known = [SHAPES, *tfds.list_builders(with_community_datasets=False)]
    near = difflib.get_close_matches(name, known, n=3) or [SHAPES, "cifar10", "imagenet2012"]
    return f"--dataset={dataset} is not a TFDS data set nor in --data_dir: try {', '.join(near)}"


def _missing_package(dataset: str, error: ImportError) -> str:
    package = error.name or one_line(error)
    return f"--dataset={dataset} needs a package that is missing: pip install {package}"


def _cannot_write(dataset: str, data_dir: str | None, error: OSError) -> str:
    return (
        f"--dataset={dataset} cannot be prepared in --data_dir={data_dir} ({one_line(error)}): "
        "give a --data_dir that can be written to"
    )
