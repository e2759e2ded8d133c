"""Reads HDF5 files that nobody vouches for: only plain arrays that are in the file itself.

HDF5 can refer to other files, compute values by plug-ins, and claim arrays that it does not store.
Keras writes none of these, so all of them are errors.
"""

import math
from typing import Any

import h5py
import numpy as np

MAX_MEMBERS = 10_000  # in one group; a ResNet-200 with selective kernels has two thousand layers


def members(group: h5py.Group) -> list[str]:
    """Returns the names in a group.

    Raises:
      ValueError: there are too many.
    """
    if len(group) > MAX_MEMBERS:
        raise ValueError(f"its group {group.name} has more than {MAX_MEMBERS} members")
    return list(group)


def subgroup(group: h5py.Group, name: str) -> h5py.Group | None:
    """Returns a group in a group; None if there is no group of that name.

    Raises:
      ValueError: the name is a link to another place or file.
    """
    found = _member(group, name)
    return found if isinstance(found, h5py.Group) else None


def dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    """Returns an array of floating-point numbers in a group, without reading it.

    Raises:
      ValueError: there is no such array, or its values are not in this file as they are.
    """
    found = _member(group, name)
    path = f"{group.name}/{name}"
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"its {path} is not an array")
    try:
        dtype = found.dtype
    except TypeError as error:  # HDF5 has types that NumPy lacks
        raise ValueError(f"its {path} is not an array of numbers: {error}") from error
    if dtype.kind != "f":
        raise ValueError(f"its {path} holds {dtype}, not floating-point numbers")
    if found.is_virtual or found.external:
        raise ValueError(f"the values of its {path} are in another file")
    if found.id.get_create_plist().get_nfilters() or found.shape is None:
        raise ValueError(f"its {path} is compressed or empty, and Keras writes no such array")
    claimed, stored = math.prod(found.shape) * dtype.itemsize, found.id.get_storage_size()
    if claimed > stored:
        raise ValueError(f"its {path} claims {claimed} bytes and stores {stored}")
    return found


def read(array: h5py.Dataset) -> np.ndarray:
    """Reads an array that `dataset` has checked."""
    return np.asarray(array[()])


def _member(group: h5py.Group, name: str) -> Any:
    try:
        link = group.get(name, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"its {group.name}/{name} is a link to another place or file")
        return group[name]
    except (KeyError, TypeError) as error:  # how h5py reports some kinds of damage
        raise ValueError(f"its {group.name}/{name} is damaged: {error}") from error
