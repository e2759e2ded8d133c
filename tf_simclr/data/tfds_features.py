"""Keeps a prepared TFDS data set from naming code to be run.

features.json says by its full name which Python class decodes each feature, and TFDS imports the
module of a class that it does not know. Here only TFDS's own classes are taken.
"""

import contextlib

import tensorflow_datasets as tfds

from tf_simclr.config import ConfigError, one_line

_OWN = "tensorflow_datasets."


@contextlib.contextmanager
def only_own(dataset: str):
    """Refuses features of other packages, while TFDS opens the files of a data set.

    Args:
      dataset: as given to --dataset, for the message.

    Raises:
      ConfigError: a feature's class is not TFDS's own.
    """
    feature = tfds.features.FeatureConnector
    before = feature.__dict__["cls_from_name"]

    def cls_from_name(cls, python_class_name: str):
        if not str(python_class_name).startswith(_OWN):
            raise ConfigError(
                f"--dataset={dataset} has a feature of the class "
                f"{one_line(repr(python_class_name))}, which is not one of TensorFlow Datasets "
                "and would run code: prepare the data set anew, or remove it from data_dir"
            )
        return before.__get__(None, cls)(python_class_name)

    feature.cls_from_name = classmethod(cls_from_name)
    try:
        yield
    finally:
        feature.cls_from_name = before
