"""Picture files of any make: JPEG, PNG, WebP, GIF, TIFF and more, as cameras and browsers leave
them.

Pillow decodes them all, in this process: TensorFlow's decoders know neither WebP (2.15) nor EXIF
orientation, palettes in BMP, CMYK or TIFF.
"""

import io
import os
import warnings
import zlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps, PngImagePlugin, features

from tf_simclr.config.sections import Data
from tf_simclr.data.sources import image_kinds
from tf_simclr.data.sources import image_range as ranges
from tf_simclr.data.sources.image_range import ImageRange

# Pillow can be built without the last two.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF") + tuple(
    name for name, needs in (("AVIF", "avif"), ("JPEG2000", "jpg_2000")) if features.check(needs)
)
FORMAT_NAMES = ", ".join(FORMATS).replace("WEBP", "WebP").replace("JPEG2000", "JPEG 2000")
MIN_SIDE = 8
NOT_A_PICTURE, NOT_READABLE = "not a picture", "not readable"
_MAX_TEXT = 64 * 2**20  # bytes of a PNG's texts and colour profile
_TOO_SMALL = f"smaller than {MIN_SIDE} pixels"
_TOO_MUCH_TEXT = f"with more than {_MAX_TEXT // 2**20} MB of text or colour profile"
_WIDE_TIFF = "TIFF of signed, 32-bit, floating-point or LAB values"
_DEEP_COLOR_TIFF = "16-bit colour TIFF, which --image_range cannot scale"
_ORIENTATION = 0x0112  # the EXIF tag
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # TIFF tags, and a value of the second
_HEAD = 4096  # bytes

# Pillow gives up above one MiB, which scanners and photo editors exceed.
PngImagePlugin.MAX_TEXT_CHUNK = max(PngImagePlugin.MAX_TEXT_CHUNK, _MAX_TEXT)
PngImagePlugin.MAX_TEXT_MEMORY = max(PngImagePlugin.MAX_TEXT_MEMORY, _MAX_TEXT)
# About sizes that are checked here, and odd EXIF. A filter for each call would not be safe in
# threads.
warnings.filterwarnings("ignore", category=Warning, module=r"PIL\.")


class Limits(NamedTuple):
    """Which pictures can be used.

    Attributes:
      max_megapixels: the largest, in millions of pixels.
      in_range: whether 16-bit values are to be scaled from an image_range.
    """

    max_megapixels: int = Data.max_megapixels
    in_range: bool = False


DEFAULT_LIMITS = Limits()


class Inspection(NamedTuple):
    """What the first bytes of a file tell.

    Attributes:
      complaint: why it cannot be used, in the same words for the same reason; None if it can.
      is_16_bit: whether its pixels have 16 bits a channel, all of which can be read.
      size: of the file in bytes.
      checksum: of its first bytes.
    """

    complaint: str | None
    is_16_bit: bool = False
    size: int = 0
    checksum: int = 0


def complaints(limits: Limits) -> frozenset[str]:
    """All complaints that an inspection can make, but for NOT_READABLE."""
    return image_kinds.NAMES | {
        NOT_A_PICTURE,
        _TOO_SMALL,
        _TOO_MUCH_TEXT,
        _WIDE_TIFF,
        _DEEP_COLOR_TIFF,
        _too_large(limits),
    }


def inspect(path: str | bytes, limits: Limits = DEFAULT_LIMITS) -> Inspection:
    """Reads the beginning of a file, and says whether it is a picture that can be used."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
            size = os.fstat(file.fileno()).st_size
            file.seek(0)
            suffix = os.fsdecode(os.path.splitext(path)[1])
            complaint, is_16_bit = _look(file, head, suffix, limits)
        return Inspection(complaint, is_16_bit, size, zlib.crc32(head))
    except OSError:
        return Inspection(NOT_READABLE)


def pixels(
    encoded: bytes, image_range: ImageRange | None = None, *, max_megapixels: int | None = None
) -> np.ndarray:
    """The bytes of a file -> uint8 (h, w, 3), turned as EXIF says.

    What is transparent is laid on white, CMYK becomes RGB; of several pictures in a file the first
    counts. 16 bits are scaled to 8, from image_range if it is given.

    Args:
      encoded: the whole file.
      image_range: the values of 16-bit images that become black and white.
      max_megapixels: the largest picture, in millions of pixels; None for the setting's default.

    Raises:
      ValueError, OSError or another: it is no picture, cut short, has a side under 8 pixels or too
        many pixels.
    """
    limits = Limits(max_megapixels or Data.max_megapixels, image_range is not None)
    image = _open(io.BytesIO(encoded), limits)
    if wrong := _complaint(image, encoded[:_HEAD], "", limits):
        raise ValueError(wrong)
    if image_range and _is_16_bit(image, encoded):
        return _pixels_in_range(image, encoded, image_range)
    if _is_deep_gray(image):
        return _gray_pixels(image, ImageRange(0, ranges.LARGEST))
    image = ImageOps.exif_transpose(image)
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def values_16_bit(encoded: bytes, *, channels: int = 3) -> np.ndarray:
    """A 16-bit PNG, or gray TIFF or JPEG 2000 -> its values, uint16 (h, w, channels).

    PNGs are decoded by TensorFlow: Pillow cuts all but gray ones to 8 bits.
    """
    if not _is_16_bit_png(encoded):
        image = _open(io.BytesIO(encoded), DEFAULT_LIMITS)
        return np.repeat(_deep_gray(image)[0][..., None], channels, axis=-1)
    with tf.device("CPU:0"):
        return tf.io.decode_png(encoded, channels, tf.uint16).numpy()


def decode(
    encoded: tf.Tensor,
    image_range: ImageRange | None = None,
    *,
    max_megapixels: int | None = None,
) -> tf.Tensor:
    """`pixels` in a graph: string () -> uint8 (h, w, 3); an error where there is no picture."""
    image = tf.numpy_function(
        lambda content: pixels(content, image_range, max_megapixels=max_megapixels),
        [encoded],
        tf.uint8,
        stateful=False,
    )
    return tf.ensure_shape(image, (None, None, 3))


def _look(file, head: bytes, suffix: str, limits: Limits) -> tuple[str | None, bool]:
    """(complaint, is_16_bit) of an open file."""
    try:
        image = _open(file, limits)
        complaint = _complaint(image, head, suffix, limits)
        return complaint, complaint is None and _is_16_bit(image, head)
    except Image.DecompressionBombError:
        return _too_large(limits), False
    except OSError as error:
        if error.errno:
            raise
        # Pillow's own error, which has no number.
        return image_kinds.unread(head) or NOT_A_PICTURE, False
    except Exception as error:  # Pillow's plugins raise whatever they like
        if "MAX_TEXT" in str(error):
            return _TOO_MUCH_TEXT, False
        return image_kinds.unread(head) or NOT_A_PICTURE, False


def _open(file, limits: Limits) -> Image.Image:
    # Pillow refuses twice its own limit, and warns above it. It must not be the first to refuse.
    if Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, limits.max_megapixels * 10**6)
    return Image.open(file, formats=FORMATS)


def _complaint(image: Image.Image, head: bytes, suffix: str, limits: Limits) -> str | None:
    """Why an image that Pillow has opened cannot be used."""
    if min(image.size) < MIN_SIDE:
        return _TOO_SMALL
    if image.size[0] * image.size[1] > limits.max_megapixels * 10**6:
        return _too_large(limits)
    if image.format == "TIFF":
        if image_kinds.is_raw(head, image.tag_v2, suffix):
            return image_kinds.RAW
        if image.mode in ("I", "F", "LAB"):  # of unknown range, or not converted by Pillow
            return _WIDE_TIFF
        if limits.in_range and max(image.tag_v2.get(_BITS, (1,))) > 8 and not _is_deep_gray(image):
            return _DEEP_COLOR_TIFF
    return None


def _too_large(limits: Limits) -> str:
    return f"larger than {limits.max_megapixels} megapixels"


def _is_16_bit_png(head: bytes) -> bool:
    return head[1:4] == b"PNG" and head[24:25] == b"\x10"


def _is_deep_gray(image: Image.Image) -> bool:
    """Whether Pillow keeps more than 8 bits a pixel."""
    return image.mode.startswith("I")


def _is_16_bit(image: Image.Image, head: bytes) -> bool:
    """Whether an image has 16 bits a channel, all of which can be read."""
    return _is_16_bit_png(head) or _is_deep_gray(image)


def _deep_gray(image: Image.Image) -> tuple[np.ndarray, int]:
    """A gray image of up to 16 bits: its values as stored, uint16 (h, w), and EXIF's orientation.

    Pillow turns TIFFs itself while it decodes them; their orientation then is 1.
    """
    values = np.asarray(image).astype(np.int64).clip(0, ranges.LARGEST)
    tags = getattr(image, "tag_v2", {})
    white = 2 ** max(tags.get(_BITS, (16,))) - 1
    if white < ranges.LARGEST:  # a TIFF of 12 bits, in which 4095 is white
        values = values * ranges.LARGEST // white
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = ranges.LARGEST - values
    return values.astype(np.uint16), image.getexif().get(_ORIENTATION, 1)


def _pixels_in_range(image: Image.Image, encoded: bytes, image_range: ImageRange) -> np.ndarray:
    """`pixels` of an image of 16 bits."""
    if not _is_16_bit_png(encoded):
        return _gray_pixels(image, image_range)
    transparent = "A" in image.getbands() or "transparency" in image.info
    values = values_16_bit(encoded, channels=4 if transparent else 3)
    colors = ranges.to_8_bits(values[..., :3], image_range)
    if transparent:
        opacity = values[..., 3:] / ranges.LARGEST
        colors = np.rint(colors * opacity + 255 * (1 - opacity)).astype(np.uint8)
    return np.ascontiguousarray(_turned(colors, image.getexif().get(_ORIENTATION, 1)))


def _gray_pixels(image: Image.Image, image_range: ImageRange) -> np.ndarray:
    """`pixels` of a gray image of which Pillow keeps all 16 bits."""
    values, orientation = _deep_gray(image)
    gray = _turned(ranges.to_8_bits(values, image_range), orientation)
    return np.repeat(gray[..., None], 3, axis=-1)


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """An image (h, w, ...) as EXIF's orientation (1 to 8) says."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image
