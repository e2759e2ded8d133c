"""Inspects the first bytes of image files, to find which files can be used.

Pillow opens them: JPEG, PNG, WebP, GIF, TIFF and more, as cameras and browsers write them.
`image_decoding` decodes them.
"""

import io
import os
import warnings
import zlib
from typing import BinaryIO, NamedTuple

from PIL import Image, PngImagePlugin, features

from tf_simclr.config.sections import Data
from tf_simclr.data.sources import image_kinds

# Pillow can be built without the last two.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF") + tuple(
    name for name, needs in (("AVIF", "avif"), ("JPEG2000", "jpg_2000")) if features.check(needs)
)
FORMAT_NAMES = ", ".join(FORMATS).replace("WEBP", "WebP").replace("JPEG2000", "JPEG 2000")
MIN_SIDE = 8
NOT_A_PICTURE, NOT_READABLE = "not a picture", "not readable"
BITS_TAG = 258  # TIFF tag: bits per channel
_MAX_TEXT = 64 * 2**20  # bytes of a PNG's texts and color profile
_TOO_SMALL = f"smaller than {MIN_SIDE} pixels"
_TOO_MUCH_TEXT = f"with more than {_MAX_TEXT // 2**20} MB of text or color profile"
_WIDE_TIFF = "TIFF of signed, 32-bit, floating-point or LAB values"
_DEEP_COLOR_TIFF = "16-bit color TIFF, which --image_range cannot scale"
_HEAD = 4096  # bytes

# Pillow rejects texts above one MiB, which scanners and photo editors exceed.
PngImagePlugin.MAX_TEXT_CHUNK = max(PngImagePlugin.MAX_TEXT_CHUNK, _MAX_TEXT)
PngImagePlugin.MAX_TEXT_MEMORY = max(PngImagePlugin.MAX_TEXT_MEMORY, _MAX_TEXT)
# Pillow warns about large sizes, which are checked here, and odd EXIF. A filter per call would not
# be safe in threads.
warnings.filterwarnings("ignore", category=Warning, module=r"PIL\.")


class Limits(NamedTuple):
    """Limits of the images that can be used.

    Attributes:
      max_megapixels: the largest image, in millions of pixels.
      in_range: whether 16-bit values are to be scaled from an image_range.
    """

    max_megapixels: int = Data.max_megapixels
    in_range: bool = False


DEFAULT_LIMITS = Limits()


class Inspection(NamedTuple):
    """The result of inspecting the first bytes of a file.

    Attributes:
      complaint: why the file cannot be used, a fixed message for each reason; None if it can.
      is_16_bit: whether its pixels have 16 bits per channel and all 16 can be read.
      size: size of the file in bytes.
      checksum: checksum of its first bytes.
    """

    complaint: str | None
    is_16_bit: bool = False
    size: int = 0
    checksum: int = 0


def complaints(limits: Limits) -> frozenset[str]:
    """Returns all complaints that an inspection can make, except NOT_READABLE."""
    return image_kinds.NAMES | {
        NOT_A_PICTURE,
        _TOO_SMALL,
        _TOO_MUCH_TEXT,
        _WIDE_TIFF,
        _DEEP_COLOR_TIFF,
        _too_large(limits),
    }


def inspect(path: str | bytes, limits: Limits = DEFAULT_LIMITS) -> Inspection:
    """Reads the beginning of a file and checks whether it is an image that can be used."""
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


def complaint_about(encoded: bytes, suffix: str, limits: Limits = DEFAULT_LIMITS) -> str | None:
    """Does what `inspect` does for the bytes of a whole file. Returns the complaint.

    Args:
      encoded: the whole file.
      suffix: the end of its name, such as ".nef": some camera formats differ only in that.
      limits: limits of the images that can be used.
    """
    return _look(io.BytesIO(encoded), encoded[:_HEAD], suffix, limits)[0]


def open_checked_image(encoded: bytes, limits: Limits) -> Image.Image:
    """Opens the bytes of a whole file without decoding them.

    Raises:
      ValueError, OSError or another error of Pillow: it is not an image, or exceeds the limits.
    """
    image = open_image(io.BytesIO(encoded), limits)
    if complaint := _complaint(image, encoded[:_HEAD], "", limits):
        raise ValueError(complaint)
    return image


def open_image(file: BinaryIO, limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """Opens a file of one of FORMATS, of any size, without decoding it."""
    # Raise Pillow's own limit above ours. Otherwise our check would never apply.
    if Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, limits.max_megapixels * 10**6)
    return Image.open(file, formats=FORMATS)


def is_16_bit(image: Image.Image, head: bytes) -> bool:
    """Returns whether an image has 16 bits per channel and all 16 can be read."""
    return is_16_bit_png(head) or is_deep_gray(image)


def is_16_bit_png(head: bytes) -> bool:
    """Returns whether a file with these first bytes is a PNG with 16 bits per channel."""
    return head[1:4] == b"PNG" and head[24:25] == b"\x10"


def is_deep_gray(image: Image.Image) -> bool:
    """Returns whether Pillow keeps more than 8 bits per pixel, as for deep gray images."""
    return image.mode.startswith("I")


def tiff_tags(image: Image.Image) -> dict:
    """Returns {number: value} of the first directory of a TIFF; {} for other formats."""
    return getattr(image, "tag_v2", {})


def _look(file: BinaryIO, head: bytes, suffix: str, limits: Limits) -> tuple[str | None, bool]:
    """Returns (complaint, is_16_bit) of an open file."""
    try:
        image = open_image(file, limits)
        complaint = _complaint(image, head, suffix, limits)
        return complaint, complaint is None and is_16_bit(image, head)
    except Image.DecompressionBombError:
        return _too_large(limits), False
    except OSError as error:
        if error.errno:
            raise
        # an error of Pillow itself has no errno
        return image_kinds.name_unsupported_format(head) or NOT_A_PICTURE, False
    except Exception as error:  # Pillow's plugins may raise any exception
        if "MAX_TEXT" in str(error):
            return _TOO_MUCH_TEXT, False
        return image_kinds.name_unsupported_format(head) or NOT_A_PICTURE, False


def _complaint(image: Image.Image, head: bytes, suffix: str, limits: Limits) -> str | None:
    """Returns why an image that Pillow has opened cannot be used; None if it can."""
    if min(image.size) < MIN_SIDE:
        return _TOO_SMALL
    if image.size[0] * image.size[1] > limits.max_megapixels * 10**6:
        return _too_large(limits)
    if image.format == "TIFF":
        tags = tiff_tags(image)
        if image_kinds.is_raw(head, tags, suffix):
            return image_kinds.RAW
        if image.mode in ("I", "F", "LAB"):  # of unknown range, or not converted by Pillow
            return _WIDE_TIFF
        if limits.in_range and max(tags.get(BITS_TAG, (1,))) > 8 and not is_deep_gray(image):
            return _DEEP_COLOR_TIFF
    return None


def _too_large(limits: Limits) -> str:
    return f"larger than {limits.max_megapixels} megapixels"
