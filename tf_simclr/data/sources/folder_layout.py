"""Rejects layouts of a labeled folder that would train without an error, but on wrong labels."""

import os
from collections.abc import Sequence

from tf_simclr.errors import ConfigError, listed

SPLIT_NAMES = frozenset(
    {
        "train",
        "training",
        "val",
        "valid",
        "validation",
        "test",
        "testing",
        "eval",
        "dev",
    }
)
ALL = "all"  # in TFDS's syntax of splits


def class_names(directory: str, paths: Sequence[str]) -> tuple[str, ...]:
    """Checks the layout (`check`) and returns the sorted names of the classes that have images."""
    check(directory, paths)
    return tuple(sorted({path.split(os.sep)[1] for path in paths}))


def check(directory: str, paths: Sequence[str]) -> None:
    """Checks that the folders look like splits and classes.

    Whether one class is enough depends on the training mode, and is checked elsewhere.

    Args:
      directory: data_dir.
      paths: paths of the images in SPLIT/CLASS/, relative to data_dir.

    Raises:
      ConfigError: the splits are one folder deeper, or one of several splits is named "all".
    """
    parts = [path.split(os.sep) for path in paths]
    splits, classes = {p[0] for p in parts}, {p[1] for p in parts}
    # A class is a folder of images. A split is a folder of folders.
    holds_folders_only = classes - {p[1] for p in parts if len(p) == 3}
    split = min(splits)
    if len(splits) == 1 and _is_too_high(split, classes, holds_folders_only):
        raise ConfigError(
            f"data_dir {directory!r} seems to be one folder too high: its only split would be "
            f"{split!r} with {_listed(classes)}: --data_dir={os.path.join(directory, split)} is "
            "probably meant"
        )
    if ALL in splits and len(splits) > 1:
        raise ConfigError(
            f"data_dir {directory!r} has a split folder {ALL!r} beside other splits, and "
            f"--train_split={ALL} means all splits together: rename it"
        )


def _is_too_high(split: str, classes: set[str], holds_folders_only: set[str]) -> bool:
    """Returns whether the apparent classes of the only split are splits themselves."""
    named_like_splits = {name for name in classes if name.lower() in SPLIT_NAMES}
    is_named_like_a_split = split.lower() in SPLIT_NAMES
    if named_like_splits & holds_folders_only:
        return True
    if len(classes) == 1:  # a folder named like a split may hold a single class
        return not is_named_like_a_split and bool(named_like_splits | holds_folders_only)
    return named_like_splits == classes


def _listed(classes: set[str]) -> str:
    """Lists the first few names of classes for a message."""
    return f"the class{'' if len(classes) == 1 else 'es'} {listed(map(repr, sorted(classes)))}"
