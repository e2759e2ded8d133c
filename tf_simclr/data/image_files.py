"""Picture files of any make: JPEG, PNG, WebP, BMP and GIF as cameras and browsers leave them.

Pillow decodes them all, in this process: TensorFlow's decoders know neither WebP (2.15) nor EXIF
orientation, palettes in BMP or CMYK.
"""

import io
import warnings

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
MIN_SIDE, MAX_SIDE = 8, 8000
_TOO_LARGE = f"larger than {MAX_SIDE} pixels"


def complaint(path: str | bytes) -> str | None:
    """Why a file is no picture that can be used, as far as its first bytes tell; None if it is one.

    What comes back is for counting: the same words for the same reason.
    """
    try:
        with open(path, "rb") as file:
            return _wrong_size(_open(file))
    except OSError as error:
        # Pillow's is an OSError, too, without a number.
        return "not readable" if error.errno else "not a picture"
    except Image.DecompressionBombError:
        return _TOO_LARGE
    except (ValueError, SyntaxError):
        return "not a picture"


def pixels(encoded: bytes) -> np.ndarray:
    """The bytes of a file -> uint8 (h, w, 3), turned as EXIF says.

    16 bits are scaled to 8, what is transparent is laid on white, CMYK becomes RGB; of several
    pictures in a file the first counts.

    Raises:
      ValueError, OSError or another: it is none, cut short, or has a side under 8 or over 8000
        pixels.
    """
    image = _open(io.BytesIO(encoded))
    if wrong := _wrong_size(image):
        raise ValueError(wrong)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit gray
        gray = np.asarray(image).astype(np.float64) / 257
        return np.repeat(np.rint(gray.clip(0, 255)).astype(np.uint8)[..., None], 3, axis=-1)
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """`pixels` in a graph: string () -> uint8 (h, w, 3); an error where there is no picture."""
    image = tf.numpy_function(pixels, [encoded], tf.uint8, stateful=False)
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
