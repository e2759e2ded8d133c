"""--image_range: which values of 16-bit images become black and white.

Cameras and microscopes with 12 bits store their values unchanged in 16-bit files. Read as 16-bit,
such images look nearly black.
"""

import sys
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

LARGEST = 65535
SAMPLE_SIZE = 32
_DARK = LARGEST // 4


class ImageRange(NamedTuple):
    """The values that become 0 and 255. Values between are scaled, values outside are clipped."""

    low: int
    high: int


def parse(text: str | None) -> ImageRange | None:
    """Parses a checked image_range: "0,4095" -> ImageRange(0, 4095)."""
    return ImageRange(*map(int, text.split(","))) if text else None


def to_8_bits(values: np.ndarray, image_range: ImageRange) -> np.ndarray:
    """Scales uint16 of any shape to uint8 of the same shape."""
    scaled = (values.astype(np.float32) - image_range.low) * 255
    return np.rint((scaled / (image_range.high - image_range.low)).clip(0, 255)).astype(np.uint8)


def tensor_to_8_bits(values: tf.Tensor, image_range: ImageRange) -> tf.Tensor:
    """Computes `to_8_bits` in a graph."""
    scaled = (tf.cast(values, tf.float32) - image_range.low) * 255
    scaled = tf.clip_by_value(scaled / (image_range.high - image_range.low), 0, 255)
    return tf.cast(tf.round(scaled), tf.uint8)


def evenly_spaced(count: int) -> list[int]:
    """Returns at most SAMPLE_SIZE evenly spaced positions in [0, count)."""
    size = min(count, SAMPLE_SIZE)
    return [count * i // size for i in range(size)]


def warn_if_dark(name: str, images: Iterable[np.ndarray]) -> None:
    """Warns on stderr if 16-bit images use so little of their range that they are nearly black.

    Args:
      name: name of the data set.
      images: a sample of its 16-bit images, uint16 of any shape.
    """
    ranges = [(int(image.min()), int(image.max())) for image in images if image.size]
    low = min((low for low, _ in ranges), default=0)
    high = max((high for _, high in ranges), default=0)
    if not 0 < high < _DARK:
        return
    white = 2 ** high.bit_length() - 1
    print(
        f"{name}: {len(ranges)} of the 16-bit images hold values from {low} to {high}, where "
        f"{LARGEST} is white. They are nearly black: --image_range=0,{white} makes {white} white",
        file=sys.stderr,
    )
