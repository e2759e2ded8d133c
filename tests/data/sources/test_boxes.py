"""Rows of JPEGs have the pixels of the whole image, and the same errors."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_simclr.data.sources import boxes

SIZE = 70, 93
BOXES = [(0, 0, 70, 93), (0, 5, 33, 20), (31, 7, 39, 86), (17, 0, 8, 93), (69, 92, 1, 1)]


def picture(mode="RGB"):
    noise = np.random.default_rng(7).integers(0, 256, (*SIZE, 4), np.uint8)
    smooth = np.cumsum(noise.astype(np.float64) - 127.5, axis=1) / 20 + 128
    pixels = smooth.clip(0, 255).astype(np.uint8)
    return (
        Image.fromarray(pixels, "CMYK").convert(mode)
        if mode != "CMYK"
        else (Image.fromarray(pixels, "CMYK"))
    )


def encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


KINDS = {
    "usual": encoded(picture()),
    "full color": encoded(picture(), subsampling=0, quality=95),
    "half color": encoded(picture(), subsampling=1),
    "progressive": encoded(picture(), progressive=True),
    "restarts": encoded(picture(), restart_marker_rows=1),
    "gray": encoded(picture("L")),
    "CMYK": encoded(picture("CMYK")),
    "with more after its end": encoded(picture()) + b"more",
    "PNG": encoded(picture(), "PNG"),
}


def decode(encoded):
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)


def cut(image, box):
    y, x, height, width = np.array(box)
    return np.array(image)[y : y + height, x : x + width]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_have_the_pixels_of_the_whole_image(kind):
    whole = decode(KINDS[kind])

    @tf.function
    def rows(encoded, chosen):
        def draw(height, width):
            tf.debugging.assert_equal((height, width), SIZE)
            return chosen

        return boxes.decode_needed_rows(decode, encoded, draw)

    for first in BOXES:
        for second in BOXES:
            image, found = rows(tf.constant(KINDS[kind]), tf.constant([first, second]))
            for box, of_image in zip((first, second), found, strict=True):
                np.testing.assert_array_equal(cut(image, of_image), cut(whole, box))


@pytest.mark.parametrize(
    "kind, rows", [("usual", 8), ("gray", 8), ("PNG", 70), ("with more after its end", 70)]
)
def test_only_those_rows_are_decoded(kind, rows):
    image, _ = boxes.decode_needed_rows(
        decode, KINDS[kind], lambda height, width: tf.constant(BOXES[3:4])
    )
    assert image.shape == (rows, 93, 3)


@pytest.mark.parametrize("share", [0.3, 0.99])
def test_a_file_cut_short_is_an_error_for_any_box(share):
    short = KINDS["usual"][: int(share * len(KINDS["usual"]))]
    with pytest.raises(tf.errors.InvalidArgumentError):
        boxes.decode_needed_rows(decode, short, lambda height, width: tf.constant([[0, 0, 1, 1]]))
