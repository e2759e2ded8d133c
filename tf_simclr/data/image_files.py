"""Picture files of any make: JPEG, PNG, WebP, BMP and GIF as cameras and browsers leave them.

Pillow decodes them all, in this process: TensorFlow's decoders know neither WebP (2.15) nor EXIF
orientation, palettes in BMP or CMYK.
"""

import io
import os
import warnings
import zlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from tf_simclr.data import image_range as ranges
from tf_simclr.data.image_range import ImageRange

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
MIN_SIDE, MAX_SIDE = 8, 8000
_ORIENTATION = 0x0112  # the EXIF tag
_HEAD = 4096  # bytes
_TOO_LARGE = f"larger than {MAX_SIDE} pixels"


class Inspection(NamedTuple):
    """What the first bytes of a file tell.

    Attributes:
      complaint: why it cannot be used, in the same words for the same reason; None if it can.
      is_16_bit: whether its pixels have 16 bits a channel.
      size: of the file in bytes.
      checksum: of its first bytes.
    """

    complaint: str | None
    is_16_bit: bool = False
    size: int = 0
    checksum: int = 0


def inspect(path: str | bytes) -> Inspection:
    """Reads the beginning of a file, and says whether it is a picture that can be used."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
            file.seek(0)
            complaint = _wrong_size(_open(file))
            size = os.fstat(file.fileno()).st_size
            return Inspection(complaint, _is_16_bit(head), size, zlib.crc32(head))
    except OSError as error:
        # Pillow's is an OSError, too, without a number.
        return Inspection("not readable" if error.errno else "not a picture")
    except Image.DecompressionBombError:
        return Inspection(_TOO_LARGE)
    except (ValueError, SyntaxError):
        return Inspection("not a picture")


def pixels(encoded: bytes, image_range: ImageRange | None = None) -> np.ndarray:
    """The bytes of a file -> uint8 (h, w, 3), turned as EXIF says.

    What is transparent is laid on white, CMYK becomes RGB; of several pictures in a file the first
    counts. 16 bits are scaled to 8, from image_range if it is given.

    Raises:
      ValueError, OSError or another: it is none, cut short, or has a side under 8 or over 8000
        pixels.
    """
    image = _open(io.BytesIO(encoded))
    if wrong := _wrong_size(image):
        raise ValueError(wrong)
    if image_range and _is_16_bit(encoded):
        return _pixels_in_range(image, encoded, image_range)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit gray
        gray = np.asarray(image).astype(np.float64) / 257
        return np.repeat(np.rint(gray.clip(0, 255)).astype(np.uint8)[..., None], 3, axis=-1)
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def values_16_bit(encoded: bytes, *, channels: int = 3) -> np.ndarray:
    """A 16-bit PNG -> its values, uint16 (h, w, channels).

    Decoded by TensorFlow: Pillow cuts all but gray ones to 8 bits.
    """
    with tf.device("CPU:0"):
        return tf.io.decode_png(encoded, channels, tf.uint16).numpy()


def decode(encoded: tf.Tensor, image_range: ImageRange | None = None) -> tf.Tensor:
    """`pixels` in a graph: string () -> uint8 (h, w, 3); an error where there is no picture."""
    image = tf.numpy_function(
        lambda content: pixels(content, image_range), [encoded], tf.uint8, stateful=False
    )
    return tf.ensure_shape(image, (None, None, 3))


def _open(file) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes that are refused anyway, of odd EXIF
        return Image.open(file, formats=FORMATS)


def _wrong_size(image: Image.Image) -> str | None:
    if min(image.size) < MIN_SIDE:
        return f"smaller than {MIN_SIDE} pixels"
    if max(image.size) > MAX_SIDE:
        return _TOO_LARGE
    return None


def _is_16_bit(head: bytes) -> bool:
    """Whether a file that begins so is a PNG of 16 bits a channel: no other format has them."""
    return head[1:4] == b"PNG" and head[24:25] == b"\x10"


def _pixels_in_range(image: Image.Image, encoded: bytes, image_range: ImageRange) -> np.ndarray:
    """`pixels` of a 16-bit PNG."""
    transparent = "A" in image.getbands() or "transparency" in image.info
    values = values_16_bit(encoded, channels=4 if transparent else 3)
    colors = ranges.to_8_bits(values[..., :3], image_range)
    if transparent:
        opacity = values[..., 3:] / ranges.LARGEST
        colors = np.rint(colors * opacity + 255 * (1 - opacity)).astype(np.uint8)
    return np.ascontiguousarray(_turned(colors, image.getexif().get(_ORIENTATION, 1)))


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """An image (h, w, channels) as EXIF's orientation (1 to 8) says."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image
