"""augment.npz: image operations, and the distributions of the random ones."""

import functools
import re
import zlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from golden_checks.report import PIXEL, RESIZED_PIXEL, Report
from tf_simclr.data import augment

_IMAGE = re.compile(r"image\d+(_patch)?")
_RESIZED = re.compile(r"(image\d+)_eval(\d+)_crop")
_BLURRED = re.compile(r"(image\d+)_blur_k(\d+)_s([\d.]+)")
_GRAY = re.compile(r"(image\d+)_gray")
_PIXEL_OP = re.compile(
    r"(image\d+)_(brightness_v2|brightness_v1|contrast|saturation|hue)_(-?[\d.]+)"
)
_JITTER = re.compile(rf"jitter_({'|'.join(augment.JITTER_IMPLS)})_([\d.]+)_(mean|std)_rgb")
_CROP_BOXES = re.compile(r"crop_boxes_(\d+)x(\d+)")
_PIXEL_OPS = {
    "brightness_v2": augment.brightness,
    "brightness_v1": augment.brightness_additive,
    "contrast": augment.contrast,
    "saturation": augment.saturation,
    "hue": augment.hue,
}
NUM_DRAWS = 3000


def compare(report: Report, name: str, values: dict[str, np.ndarray]):
    """Compares each field of augment.npz."""
    draw_jitter = functools.cache(
        lambda impl, strength: _jitter_statistics(values["image0_patch"], impl, strength)
    )
    unknown = []
    for key in values:
        with report.guard(f"{name} {key}"):
            if match := _JITTER.fullmatch(key):
                found = draw_jitter(match[1], float(match[2]))[match[3]]
                _compare_columns(report, f"{name} {key}", found, values[key], "rgb")
            elif match := _CROP_BOXES.fullmatch(key):
                height, width = int(match[1]), int(match[2])
                found = _draw(lambda s, h=height, w=width: augment.random_crop_box(s, h, w), key)
                _compare_columns(report, f"{name} {key}", found, values[key], "yxhw")
            elif match := _RESIZED.fullmatch(key):
                found = augment.central_crop_and_resize(values[match[1]], int(match[2]))
                report.close(f"{name} {key}", found, values[key], absolute=RESIZED_PIXEL)
            elif (found := _deterministic(key, values)) is not None:
                report.close(f"{name} {key}", found, values[key], absolute=PIXEL)
            elif not _IMAGE.fullmatch(key):
                unknown.append(f"{name} {key}")
    report.not_compared(unknown)


def _deterministic(key: str, values: dict[str, np.ndarray]):
    """Our result for a field that involves no resizing; None for other fields."""
    if match := _BLURRED.fullmatch(key):
        image = tf.image.convert_image_dtype(values[match[1]], tf.float32)
        return augment.gaussian_blur(image[None], int(match[2]), float(match[3]))[0]
    if match := _GRAY.fullmatch(key):
        return augment.to_grayscale(tf.image.convert_image_dtype(values[match[1]], tf.float32))
    if match := _PIXEL_OP.fullmatch(key):
        found = _PIXEL_OPS[match[2]](values[f"{match[1]}_patch"], float(match[3]))
        return tf.clip_by_value(found, 0, 1)
    return None


def _jitter_statistics(patch: np.ndarray, impl: str, strength: float) -> dict[str, np.ndarray]:
    """Means and standard deviations (draws, 3) over the pixels of randomly distorted patches."""

    def statistics(seed):
        image = augment.color_distortion(tf.constant(patch), seed, strength=strength, impl=impl)
        return tf.stack([tf.reduce_mean(image, (0, 1)), tf.math.reduce_std(image, (0, 1))])

    means, deviations = _draw(statistics, f"{impl} {strength}").transpose(1, 0, 2)
    return {"mean": means, "std": deviations}


def _draw(function: Callable, name: str) -> np.ndarray:
    """Results (draws, ...) for as many seeds, which are the same in every run.

    They derive from a name, so that one unlucky series does not meet every quantity.
    """
    stream = zlib.crc32(name.encode())
    seeds = tf.data.Dataset.range(NUM_DRAWS).map(lambda i: tf.stack([i, stream]))
    batches = seeds.map(function, num_parallel_calls=2).batch(NUM_DRAWS)
    return next(iter(batches)).numpy()


def _compare_columns(report: Report, name: str, found, expected: np.ndarray, columns: str):
    if expected.ndim != 2 or expected.shape[1] != len(columns):
        raise ValueError(f"shape {expected.shape} instead of (draws, {len(columns)})")
    for column, letter in enumerate(columns):
        report.same_distribution(f"{name} {letter}", found[:, column], expected[:, column])
