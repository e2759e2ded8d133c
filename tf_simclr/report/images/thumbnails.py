"""Packs thumbnails into one picture of few bytes."""

import io
import math

import numpy as np
from PIL import Image

from tf_simclr.report.content import Sprite

MAX_SIDE = 16_383  # pixels, of a WebP
DEFAULT_BUDGET = 1_300_000  # bytes
_SIDES = (128, 96, 64, 48, 40, 32, 28, 24, 20, 16, 12, 8)
_QUALITIES = (80, 60, 40, 20)
_SAMPLE = 400  # thumbnails whose size predicts that of all


def pack(images: np.ndarray, *, side: int = 32, budget: int = DEFAULT_BUDGET) -> Sprite:
    """Packs thumbnails into a WebP, as large and as good as the budget allows.

    Smaller thumbnails come before a quality below 40, because their colors still show what they
    are.

    Args:
      images: uint8 (n, h, h, 3), n at least 1.
      side: largest side of a thumbnail in pixels. Images are never enlarged.
      budget: largest number of bytes.

    Returns:
      The Sprite. It exceeds the budget only if 8 pixels at the lowest quality do.
    """
    num_columns = math.ceil(math.sqrt(len(images)))
    largest = min(side, images.shape[1], MAX_SIDE // num_columns)
    sides = [largest] + [s for s in _SIDES if s < largest]
    choices = [(s, q) for s in sides for q in _QUALITIES[:3]] + [(sides[-1], _QUALITIES[-1])]
    sample = images[:: max(1, len(images) // _SAMPLE)][:_SAMPLE]
    content, chosen = b"", 0
    for i, (chosen, quality) in enumerate(choices):
        is_last = i == len(choices) - 1
        # A header is part of the sample's size, so the prediction is a little too high.
        predicted = len(_webp(sample, chosen, quality)) * len(images) / len(sample)
        if predicted > 1.1 * budget and not is_last and len(sample) < len(images):
            continue
        content = _webp(images, chosen, quality)
        if len(content) <= budget:
            break
    return Sprite(content, "image/webp", chosen, num_columns, len(images))


def sheet(images: np.ndarray, side: int) -> Image.Image:
    """Draws images row by row, ceil(sqrt(n)) in a row.

    Args:
      images: uint8 (n, h, h, 3).
      side: side of each in pixels.
    """
    num_columns = math.ceil(math.sqrt(len(images)))
    num_rows = math.ceil(len(images) / num_columns)
    picture = Image.new("RGB", (side * num_columns, side * num_rows), "white")
    for i, pixels in enumerate(images):
        image = Image.fromarray(np.ascontiguousarray(pixels))
        if image.size != (side, side):
            image = image.resize((side, side), Image.Resampling.BOX if side < image.width else 0)
        picture.paste(image, (side * (i % num_columns), side * (i // num_columns)))
    return picture


def _webp(images: np.ndarray, side: int, quality: int) -> bytes:
    content = io.BytesIO()
    sheet(images, side).save(content, "WEBP", quality=quality, method=4)
    return content.getvalue()
