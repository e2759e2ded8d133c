"""The features of a TFDS data set: chooses image and label, and rejects features that run code.

features.json names the Python class that decodes each feature, and TFDS imports the module of a
class that it does not know. This module accepts only TFDS's own classes.
"""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import tensorflow_datasets as tfds

from tf_simclr.errors import ConfigError, one_line

_OWN = "tensorflow_datasets."


@contextlib.contextmanager
def allow_only_tfds_features(dataset: str) -> Iterator[None]:
    """Rejects features of other packages while TFDS opens the files of a data set.

    Args:
      dataset: as given to --dataset, for the message.

    Raises:
      ConfigError: a feature's class does not belong to TFDS.
    """
    feature = tfds.features.FeatureConnector
    before = feature.__dict__["cls_from_name"]

    def cls_from_name(cls, python_class_name: str):
        if not str(python_class_name).startswith(_OWN):
            raise ConfigError(
                f"--dataset={dataset} has a feature of the class "
                f"{one_line(repr(python_class_name))}, which is not one of TensorFlow Datasets "
                "and would run code: prepare the data set again, or remove it from data_dir"
            )
        return before.__get__(None, cls)(python_class_name)

    feature.cls_from_name = classmethod(cls_from_name)
    try:
        yield
    finally:
        feature.cls_from_name = before


class Chosen(NamedTuple):
    """The features of a data set that are used.

    Attributes:
      image_key: name of the image feature.
      label_key: name of the ClassLabel; None without labels.
      label_note: explains why there are no labels although a feature looks like one; else "".
    """

    image_key: str
    label_key: str | None
    label_note: str = ""


def choose(
    dataset: str,
    info: tfds.core.DatasetInfo,
    *,
    image_key: str | None = None,
    label_key: str | None = None,
) -> Chosen:
    """Chooses the image and the label among the features of a data set.

    Args:
      dataset: as given to --dataset, for messages.
      info: TFDS's description of the data set.
      image_key: name of the image feature; None for "image", or the first image.
      label_key: name of the label feature; None for the supervised key, "label" or "labels".

    Raises:
      ConfigError: the image or the label does not exist or cannot be used.
    """
    features = info.features
    if not isinstance(features, tfds.features.FeaturesDict):
        features = {}
    supervised = [key for key in info.supervised_keys or () if isinstance(key, str)]
    image_key = _image_key(dataset, features, supervised, image_key)
    if label_key:
        _require(dataset, features, "label_key", label_key)
        if note := _not_a_class(label_key, features[label_key]):
            raise ConfigError(
                f"label_key must name a class with known names or number (ClassLabel) of "
                f"--dataset={dataset}, got {label_key!r}: {note}"
            )
        return Chosen(image_key, label_key)
    candidates = [key for key in dict.fromkeys([*supervised, "label", "labels"]) if key in features]
    for key in candidates:
        if isinstance(features[key], tfds.features.ClassLabel):
            return Chosen(image_key, key)
    others = [key for key in features if isinstance(features[key], tfds.features.ClassLabel)]
    if others:
        note = f"--label_key={others[0]} takes the class from its feature {others[0]!r}"
    else:
        notes = (_not_a_class(key, features[key]) for key in candidates if key != image_key)
        note = next(filter(None, notes), "")
    return Chosen(image_key, None, note)


def _image_key(dataset: str, features, supervised: list[str], wanted: str | None) -> str:
    """Chooses the name of the image feature."""
    if wanted:
        _require(dataset, features, "image_key", wanted)
        if not isinstance(features[wanted], tfds.features.Image):
            raise ConfigError(
                f"image_key must name an image of --dataset={dataset}, got {wanted!r}, which is "
                f"{_kind(features[wanted])}: it has {_listed(features, tfds.features.Image)}"
            )
        return wanted
    for key in dict.fromkeys(["image", *supervised, *features]):
        if key in features and isinstance(features[key], tfds.features.Image):
            return key
    raise ConfigError(
        f"--dataset={dataset} has no image feature, only {', '.join(features) or features}: "
        "choose a data set of images"
    )


def _require(dataset: str, features, flag: str, key: str) -> None:
    """Raises ConfigError if a data set has no feature of that name."""
    if key not in features:
        raise ConfigError(
            f"{flag} must name a feature of --dataset={dataset}, got {key!r}: it has "
            f"{', '.join(features) or 'none with names'}"
        )


def _listed(features, kind: type) -> str:
    """Lists the names of the features of a kind, for a message."""
    return ", ".join(key for key in features if isinstance(features[key], kind)) or "none"


def _kind(feature) -> str:
    """Describes a feature, for a message."""
    return f"{type(feature).__name__} of shape {feature.shape}"


def _not_a_class(key: str, feature) -> str:
    """Explains why a feature cannot be the label, with the way out; "" if it can."""
    if isinstance(feature, tfds.features.ClassLabel):
        return ""
    if isinstance(feature, tfds.features.Sequence) or (
        isinstance(feature, tfds.features.Tensor) and feature.shape
    ):
        return (
            f"{key!r} is a list of labels for each image ({_kind(feature)}), and a classifier here "
            "takes one; prepare the data set with one ClassLabel for each image"
        )
    if isinstance(feature, tfds.features.Tensor) and feature.np_dtype.kind in "iu":
        return (
            f"{key!r} is a plain integer, which does not tell how many classes there are; prepare "
            "the data set with tfds.features.ClassLabel(num_classes=...) in its place"
        )
    return (
        f"{key!r} is {_kind(feature)}, which is not a class; prepare the data set with a "
        "tfds.features.ClassLabel"
    )
