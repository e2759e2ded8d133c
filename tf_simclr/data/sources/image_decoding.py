"""Decodes image files to pixels.

Pillow decodes all formats, in this process. TensorFlow's decoders do not support WebP (2.15), EXIF
orientation, palettes in BMP, CMYK or TIFF.
"""

import io

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from tf_simclr.config.config import Data
from tf_simclr.data.sources import image_files
from tf_simclr.data.sources import image_range as ranges
from tf_simclr.data.sources.image_files import BITS_TAG, Limits
from tf_simclr.data.sources.image_range import ImageRange

DAMAGED = "damaged"  # the complaint about an image that begins well but cannot be decoded
_ORIENTATION = 0x0112  # the EXIF tag
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # a TIFF tag, and one of its values


def pixels(
    encoded: bytes, image_range: ImageRange | None = None, *, max_megapixels: int | None = None
) -> np.ndarray:
    """Decodes the bytes of a file to uint8 (h, w, 3), turned by its EXIF orientation.

    Transparency is composited on white. CMYK becomes RGB. Only the first image of a file is
    decoded. 16 bits are scaled to 8, from image_range if it is given.

    Args:
      encoded: the whole file.
      image_range: the values of 16-bit images that become black and white.
      max_megapixels: the largest image, in millions of pixels; None for the setting's default.

    Raises:
      ValueError, OSError or another error of Pillow: the file is not an image, is truncated, has a
        side under 8 pixels or too many pixels.
    """
    limits = Limits(max_megapixels or Data.max_megapixels, image_range is not None)
    image = image_files.open_checked_image(encoded, limits)
    if image_range and image_files.is_16_bit(image, encoded):
        return _pixels_in_range(image, encoded, image_range)
    if image_files.is_deep_gray(image):
        return _gray_pixels(image, ImageRange(0, ranges.LARGEST))
    image = ImageOps.exif_transpose(image)
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def values_16_bit(encoded: bytes, *, channels: int = 3) -> np.ndarray:
    """Decodes a 16-bit PNG, or a gray TIFF or JPEG 2000, to its values, uint16 (h, w, channels).

    TensorFlow decodes PNGs, because Pillow reduces all but gray ones to 8 bits.
    """
    if not image_files.is_16_bit_png(encoded):
        image = image_files.open_image(io.BytesIO(encoded))
        return np.repeat(_deep_gray(image)[0][..., None], channels, axis=-1)
    with tf.device("CPU:0"):
        return tf.io.decode_png(encoded, channels, tf.uint16).numpy()


def decode(
    encoded: tf.Tensor,
    image_range: ImageRange | None = None,
    *,
    max_megapixels: int | None = None,
) -> tf.Tensor:
    """Does in a graph what `pixels` does: string () -> uint8 (h, w, 3)."""
    image = tf.numpy_function(
        lambda content: pixels(content, image_range, max_megapixels=max_megapixels),
        [encoded],
        tf.uint8,
        stateful=False,
    )
    return tf.ensure_shape(image, (None, None, 3))


def _deep_gray(image: Image.Image) -> tuple[np.ndarray, int]:
    """Decodes a gray image of up to 16 bits: its values, uint16 (h, w), and its EXIF orientation.

    Pillow turns TIFFs while it decodes them, so their orientation is 1.
    """
    values = np.asarray(image).astype(np.int64).clip(0, ranges.LARGEST)
    tags = image_files.tiff_tags(image)
    white = 2 ** max(tags.get(BITS_TAG, (16,))) - 1
    if white < ranges.LARGEST:  # a TIFF of 12 bits, in which 4095 is white
        values = values * ranges.LARGEST // white
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = ranges.LARGEST - values
    return values.astype(np.uint16), image.getexif().get(_ORIENTATION, 1)


def _pixels_in_range(image: Image.Image, encoded: bytes, image_range: ImageRange) -> np.ndarray:
    """Decodes an image of 16 bits to uint8 (h, w, 3), scaled from image_range."""
    if not image_files.is_16_bit_png(encoded):
        return _gray_pixels(image, image_range)
    transparent = "A" in image.getbands() or "transparency" in image.info
    values = values_16_bit(encoded, channels=4 if transparent else 3)
    colors = ranges.to_8_bits(values[..., :3], image_range)
    if transparent:
        opacity = values[..., 3:] / ranges.LARGEST
        colors = np.rint(colors * opacity + 255 * (1 - opacity)).astype(np.uint8)
    return np.ascontiguousarray(_turned(colors, image.getexif().get(_ORIENTATION, 1)))


def _gray_pixels(image: Image.Image, image_range: ImageRange) -> np.ndarray:
    """Decodes a gray image with all 16 bits that Pillow keeps, to uint8 (h, w, 3)."""
    values, orientation = _deep_gray(image)
    gray = _turned(ranges.to_8_bits(values, image_range), orientation)
    return np.repeat(gray[..., None], 3, axis=-1)


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turns and mirrors an image (h, w, ...) by an EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image
