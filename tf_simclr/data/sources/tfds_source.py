"""Reads data sets of TensorFlow Datasets (TFDS) and the built-in "shapes"."""

import dataclasses
import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_simclr.data.sources import array_records, boxes, fingerprint, tfds_features, tfds_prepare
from tf_simclr.data.sources import image_range as ranges
from tf_simclr.data.sources.image_range import ImageRange
from tf_simclr.data.sources.protocol import UNLABELED, DrawBoxes
from tf_simclr.data.sources.splits import Splits
from tf_simclr.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class TfdsSource(Splits):
    """A prepared data set of TFDS, a `protocol.Source`.

    Attributes:
      name: as given to --dataset.
      num_classes: None if the data set is unlabeled.
      class_names: one name per class, None if unlabeled.
      image_shape: (height or None, width or None, channels) as stored.
      image_range: the values of 16-bit images that become black and white.
      label_note: explains why there are no labels although a feature looks like one; else "".
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
    def splits(self) -> Mapping[str, tfds.core.SplitInfo]:
        return self._builder.info.splits

    @property
    def reads_in_this_process(self) -> bool:
        """Returns whether only this process, and no tf.data service, can read the files."""
        return array_records.uses_array_record(self._builder)

    def has_one_order(self, split: str) -> bool:
        """Returns whether a split is in one file, so that there are no files to shuffle."""
        if array_records.uses_array_record(self._builder):
            return False  # shuffles single images
        terms = self.terms(split)
        return len(terms) == 1 and self._num_files(*terms[0]) == 1

    def _num_files(self, name: str, start: int, stop: int) -> int:
        """Counts the files that hold the examples from start to stop of a split."""
        ends = np.cumsum(self.splits[name].shard_lengths)
        starts = ends - self.splits[name].shard_lengths
        return int(((starts < stop) & (start < ends)).sum())

    def num_bytes(self, split: str) -> int:
        """Returns the size of a split's files, in proportion to its examples."""
        sizes = (
            self.splits[name].num_bytes * (stop - start) / self.splits[name].num_examples
            for name, start, stop in self.terms(split)
        )
        return math.ceil(sum(sizes))

    def contents(self) -> dict[str, Any]:
        """Returns the full name of the data set, its number of classes and its split sizes."""
        about = {"data set": self._builder.info.full_name, "classes": self.num_classes}
        return about | {name: info.num_examples for name, info in self.splits.items()}

    def fingerprint(self) -> int:
        """Returns a number that changes with the contents and class names (`fingerprint`)."""
        return fingerprint.digest([self.class_names, *sorted(self.contents().items())])

    def encoded_examples(
        self,
        split: str,
        *,
        shuffle_files: bool = False,
        seed: int | tf.Tensor | None = None,
        with_id: bool = False,
    ) -> tf.data.Dataset:
        """Reads a split once (`protocol.Source`).

        The id is TFDS's id: the file and the example's index in it.
        """
        keys = {"image": self._image_key}
        if self._label_key:
            keys["label"] = self._label_key
        decoding = tfds.decode.PartialDecoding(
            dict.fromkeys(keys.values(), True),
            decoders={self._image_key: tfds.decode.SkipDecoding()},
        )
        if array_records.uses_array_record(self._builder):
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
        no_label = tf.constant(UNLABELED, tf.int64)
        return dataset.map(
            lambda example: {
                "image": example[keys["image"]],
                "label": tf.cast(example[keys["label"]], tf.int64) if "label" in keys else no_label,
                **({"id": example["tfds_id"]} if with_id else {}),
            }
        )

    def _read(
        self,
        split: str,
        decoding: tfds.decode.PartialDecoding,
        shuffle_files: bool,
        seed: int | tf.Tensor | None,
        with_id: bool,
    ) -> tf.data.Dataset:
        """Reads examples with TFDS, with the features that `decoding` names."""
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
    def _image_feature(self) -> Any:
        return self._builder.info.features[self._image_key]

    def sample_16_bit(self) -> Iterator[np.ndarray]:
        """Yields a few images of the largest split, uint16 (h, w, channels), if they have 16 bits.

        An image that cannot be decoded is left out.
        """
        if self._image_feature.np_dtype != np.uint16:
            return
        name, info = max(self.splits.items(), key=lambda item: item[1].num_examples)
        # One at a time: reading "a[1:2]+a[9:10]" in one dataset would open all files at once.
        for i in ranges.evenly_spaced(info.num_examples):
            for example in self.encoded_examples(f"{name}[{i}:{i + 1}]"):
                try:
                    yield self._image_feature.decode_example(example["image"]).numpy()
                except tf.errors.OpError:
                    pass  # reading the split counts it

    def decode(self, encoded: tf.Tensor) -> tf.Tensor:
        """Decodes an image, string () -> uint8 (h, w, 3).

        Grayscale is repeated to three channels, and alpha is dropped. 16 bits are scaled to 8, from
        image_range if it is given.
        """
        image = self._image_feature.decode_example(encoded)
        if image.dtype == tf.uint16 and self.image_range:
            image = ranges.tensor_to_8_bits(image, self.image_range)
        else:
            image = tf.image.convert_image_dtype(image, tf.uint8)
        if self.image_shape[-1] == 1:
            image = tf.repeat(image, 3, axis=-1)
        return tf.ensure_shape(image[..., :3], (*self.image_shape[:2], 3))

    def decode_boxes(
        self, encoded: tf.Tensor, draw_boxes: DrawBoxes
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Decodes an image (only the needed rows of a JPEG) and draws boxes in it (`boxes`)."""
        if self.image_shape != (None, None, 3) or self._image_feature.np_dtype != np.uint8:
            return boxes.decode_image(self.decode, encoded, draw_boxes)
        return boxes.decode_needed_rows(self.decode, encoded, draw_boxes)

    def examples(
        self, split: str, *, shuffle_files: bool = False, seed: int | tf.Tensor | None = None
    ) -> tf.data.Dataset:
        """Reads a split once, decoded: {'image': uint8 (h, w, 3), 'label': int64 ()}."""
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
) -> TfdsSource:
    """Opens a data set, after downloading and preparing it if it is missing.

    Files in data_dir take precedence, in any version. They need neither the data set's code nor a
    network.

    Args:
      dataset: a TFDS name, "name", "name/config" or "name:version", or "shapes".
      data_dir: where TFDS keeps its data sets; None for TFDS's own default.
      image_range: the values of 16-bit images that become black and white.
      image_key: name of the feature that holds the image (`tfds_features.choose`).
      label_key: name of the feature that holds the class.

    Raises:
      ConfigError: the data set cannot be opened.
    """
    builder = tfds_prepare.prepared_builder(dataset, data_dir)
    keys = tfds_features.choose(dataset, builder.info, image_key=image_key, label_key=label_key)
    if array_records.uses_array_record(builder):
        array_records.check(dataset)
    return _describe(dataset, builder, keys, image_range)


def _describe(
    dataset: str, builder: Any, keys: tfds_features.Chosen, image_range: ImageRange | None
) -> TfdsSource:
    """Makes the source from TFDS's description of the features.

    Raises:
      ConfigError: its images or labels cannot be used.
    """
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
    return TfdsSource(
        name=dataset,
        num_classes=label.num_classes if label else None,
        class_names=tuple(label.names) if label else None,
        image_shape=tuple(shape),
        _builder=builder,
        _image_key=keys.image_key,
        _label_key=keys.label_key,
        image_range=image_range,
        label_note=keys.label_note,
    )
