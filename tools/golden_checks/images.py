"""Compares augment.npz: image operations, and the distributions of the random ones."""

import functools
import re
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from golden_checks.report import PIXEL, RESIZED_PIXEL, Report
from tf_simclr.data.augment import blur, color, crop, distortion, on_device

_IMAGE = re.compile(r"image\d+(_patch)?")
_RESIZED = re.compile(r"(image\d+)_eval(\d+)_crop")
_BLURRED = re.compile(r"(image\d+)_blur_k(\d+)_s([\d.]+)")
_GRAY = re.compile(r"(image\d+)_gray")
_PIXEL_OP = re.compile(
    r"(image\d+)_(brightness_v2|brightness_v1|contrast|saturation|hue)_(-?[\d.]+)"
)
_JITTER = re.compile(rf"jitter_({'|'.join(color.JITTER_IMPLS)})_([\d.]+)_(mean|std)_rgb")
_CROP_BOXES = re.compile(r"crop_boxes_(\d+)x(\d+)")
_PIXEL_OPS = {
    "brightness_v2": color.BRIGHTNESS,
    "brightness_v1": color.BRIGHTNESS_ADDITIVE,
    "contrast": color.CONTRAST,
    "saturation": color.SATURATION,
    "hue": color.HUE,
}
NUM_DRAWS = 3000
_BATCH = 4  # images distorted at a time; each batch has one permutation of the ops


def compare(
    report: Report, name: str, values: dict[str, np.ndarray], *, fast: bool = False
) -> None:
    """Compares each field of augment.npz; `fast` selects the ops on batches and on planes."""
    ops = _FAST if fast else _PLAIN
    draw_jitter = functools.cache(
        lambda impl, strength: ops.jitter(values["image0_patch"], impl, strength)
    )
    unknown = []
    for key in values:
        with report.guard(f"{name} {key}"):
            if match := _JITTER.fullmatch(key):
                computed = draw_jitter(match[1], float(match[2]))[match[3]]
                _compare_columns(report, f"{name} {key}", computed, values[key], "rgb")
            elif match := _CROP_BOXES.fullmatch(key):
                computed = ops.boxes(int(match[1]), int(match[2]), key)
                _compare_columns(report, f"{name} {key}", computed, values[key], "yxhw")
            elif match := _RESIZED.fullmatch(key):
                computed = ops.central_crop(values[match[1]], int(match[2]))
                expected = np.clip(values[key], 0, 1) if ops.crops_are_clipped else values[key]
                report.close(f"{name} {key}", computed, expected, absolute=RESIZED_PIXEL)
            elif (computed := _deterministic(key, values, ops)) is not None:
                report.close(f"{name} {key}", computed, values[key], absolute=PIXEL)
            elif not _IMAGE.fullmatch(key):
                unknown.append(f"{name} {key}")
    report.not_compared(unknown)


def _deterministic(key: str, values: dict[str, np.ndarray], ops: "_Ops"):
    """Computes a field that involves no resizing; None for other fields."""
    if match := _BLURRED.fullmatch(key):
        image = tf.image.convert_image_dtype(values[match[1]], tf.float32)
        return blur.gaussian_blur(image[None], int(match[2]), float(match[3]))[0]
    if match := _GRAY.fullmatch(key):
        return ops.gray(tf.image.convert_image_dtype(values[match[1]], tf.float32))
    if match := _PIXEL_OP.fullmatch(key):
        image, amount = values[f"{match[1]}_patch"], float(match[3])
        return tf.clip_by_value(ops.pixel_op(_PIXEL_OPS[match[2]], image, amount), 0, 1)
    return None


def _jitter_statistics(patch: np.ndarray, impl: str, strength: float) -> dict[str, np.ndarray]:
    """Computes means and standard deviations (draws, 3) over the pixels of distorted patches."""

    def statistics(seed):
        image = distortion.color_distortion(tf.constant(patch), seed, strength=strength, impl=impl)
        return tf.stack([tf.reduce_mean(image, (0, 1)), tf.math.reduce_std(image, (0, 1))])

    means, deviations = _draw(statistics, f"{impl} {strength}").transpose(1, 0, 2)
    return {"mean": means, "std": deviations}


def _boxes(height: int, width: int, key: str) -> np.ndarray:
    return _draw(lambda seed: crop.random_crop_box(seed, height, width), key)


def _batched_jitter_statistics(patch: np.ndarray, impl: str, strength: float):
    """Computes _jitter_statistics with the ops of --augment_on=device."""
    images = tf.tile(patch[None], (_BATCH, 1, 1, 1))
    distort = tf.function(
        lambda seed: on_device.color_distortion(images, seed, strength=strength, impl=impl),
        jit_compile=True,
    )
    stream = zlib.crc32(f"{impl} {strength}".encode()) % 2**31
    computed = np.concatenate(
        [distort(tf.constant([i, stream])) for i in range(NUM_DRAWS // _BATCH)]
    )
    return {"mean": computed.mean((1, 2)), "std": computed.std((1, 2))}


def _batched_boxes(height: int, width: int, key: str) -> np.ndarray:
    seed = tf.constant([0, zlib.crc32(key.encode()) % 2**31])
    return crop.random_crop_boxes(NUM_DRAWS, seed, height, width).numpy()


def _batched_central_crop(image: np.ndarray, size: int):
    box = crop.central_crop_box(*image.shape[:2])
    return on_device.crop_and_resize(image[None], box[None], tf.constant([False]), size)[0]


def _op_on_planes(op: color.Operation, image: np.ndarray, amount: float):
    return tf.stack(op.on_planes(tf.unstack(image, axis=-1), amount), axis=-1)


def _draw(function: Callable, name: str) -> np.ndarray:
    """Returns the results of a function for NUM_DRAWS seeds, (draws, ...).

    The seeds are the same in every run. They depend on the name, so one unlucky series does not
    affect every quantity.
    """
    stream = zlib.crc32(name.encode())
    seeds = tf.data.Dataset.range(NUM_DRAWS).map(lambda i: tf.stack([i, stream]))
    batches = seeds.map(function, num_parallel_calls=2).batch(NUM_DRAWS)
    return next(iter(batches)).numpy()


def _compare_columns(report: Report, name: str, computed, expected: np.ndarray, columns: str):
    if expected.ndim != 2 or expected.shape[1] != len(columns):
        raise ValueError(f"shape {expected.shape} instead of (draws, {len(columns)})")
    # A fifth of the draws leave the image unchanged, so their values are equal. A rounding error in
    # the last digit must not make them differ.
    computed, expected = np.round(computed, 5), np.round(expected, 5)
    for column, letter in enumerate(columns):
        report.same_distribution(f"{name} {letter}", computed[:, column], expected[:, column])


class _Ops(NamedTuple):
    """Holds one implementation of each operation."""

    jitter: Callable  # (patch, impl, strength) -> means and standard deviations
    boxes: Callable  # (height, width, key) -> (draws, 4)
    central_crop: Callable  # (image, size) -> (size, size, 3)
    crops_are_clipped: bool  # if False, views are clipped at the end
    gray: Callable  # image -> image
    pixel_op: Callable  # (color.Operation, image, amount) -> image


_PLAIN = _Ops(
    jitter=_jitter_statistics,
    boxes=_boxes,
    central_crop=crop.central_crop_and_resize,
    crops_are_clipped=False,
    gray=color.to_grayscale,
    pixel_op=lambda op, image, amount: op.on_image(image, amount),
)
_FAST = _Ops(
    jitter=_batched_jitter_statistics,
    boxes=_batched_boxes,
    central_crop=_batched_central_crop,
    crops_are_clipped=True,
    gray=lambda image: tf.stack([color.luma(tf.unstack(image, axis=-1))] * 3, axis=-1),
    pixel_op=_op_on_planes,
)
