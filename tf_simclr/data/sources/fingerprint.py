"""Computes a number that identifies the contents of a data set."""

import hashlib
from collections.abc import Iterable


def digest(items: Iterable) -> int:
    """Returns a number below 2**32, equal for sequences whose items have equal reprs."""
    result = hashlib.blake2b(digest_size=4)
    for item in items:
        result.update(f"{item!r}\n".encode())
    return int.from_bytes(result.digest(), "big")
