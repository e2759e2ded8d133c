"""Shows the steps from an image to its view: crop, flip, color jitter, grayscale, blur.

The steps are computed by the functions that compute views for training, one image at a time, from
the same random numbers. Their last image is the view, up to rounding.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.data.augment import blur, color, crop, distortion, on_device, views
from tf_simclr.data.augment.color import Distortion, Operation
from tf_simclr.data.augment.device_views import DeviceViews
from tf_simclr.data.batch import CropBatch, ImageBatch, TrainBatch, ViewBatch

JITTER = "color jitter"


class Step(NamedTuple):
    """One step on the way to a view.

    Attributes:
      name: "crop", "flip", the name of an operation of color jitter, "color jitter" if it is
        skipped, "gray" or "blur".
      note: what was drawn, e.g. "brightness × 1.31" or "not flipped".
      is_applied: whether the step changed the image.
      image: the image after the step, float32 (s, s, 3) in [0, 1].
    """

    name: str
    note: str
    is_applied: bool
    image: np.ndarray


def steps(
    config: Config,
    batch: TrainBatch,
    *,
    index: int,
    view_index: int,
    image: np.ndarray,
    box: np.ndarray,
    seed: np.ndarray,
) -> list[Step]:
    """Returns the steps from an image of the first training batch to one of its views.

    Args:
      config: uses the sections Augment and Data, train_mode and the seed, which must be set.
      batch: the batch, as the device receives it; its type says where each step is computed.
      index: index of the image in the batch.
      view_index: index of the view, 0 or 1.
      image: the image as stored, uint8 (h, w, 3).
      box: the crop, int32 (4,): y, x, height, width in pixels.
      seed: the seed of the host's flip and colors, int64 (2,).
    """
    seeds = DeviceViews(config).seeds(view_index, step=0, part=0)
    n = batch.labels.shape[0]
    pretrains = config.training.train_mode == "pretrain"
    if isinstance(batch, ViewBatch):
        start, drawn = _host_start(config, image, box, tf.constant(seed), pretrains)
        on_planes = views.is_compiled(config.data.image_size)
    else:
        start = _device_start(config, batch, index, view_index, seeds.flip)
        drawn = _device_distortion(config, n, index, seeds.color)
        on_planes = True
    flipped, cropped, flips = start
    height, width, _ = image.shape
    area, aspect = box[2] * box[3] / (height * width), box[3] / box[2]
    crop_note = f"crop {100 * area:.0f}% of the area, aspect {aspect:.2f}"
    result = [
        _step("crop", crop_note, True, cropped),
        _step("flip", "flipped" if flips else "not flipped", flips, flipped),
    ]
    if not pretrains:
        return result
    impl = config.augment.color_jitter_impl
    result += _color_steps(flipped, drawn, impl, on_planes)
    if config.augment.use_blur:
        distorted = tf.constant(result[-1].image)
        result.append(_blur_step(distorted, n, index, seeds.blur, config.data.image_size))
    return result


class _Start(NamedTuple):
    """The image after the flip and before it, float32 (s, s, 3), and whether it was flipped."""

    flipped: tf.Tensor
    cropped: tf.Tensor
    flips: bool


def _host_start(
    config: Config, image: np.ndarray, box: np.ndarray, seed: tf.Tensor, pretrains: bool
) -> tuple[_Start, Distortion]:
    """Computes crop and flip as `views` does; they may exceed [0, 1] after bicubic resizing."""
    if pretrains:
        flip_draw, color_draws = views.pretraining_draws(seed)
    else:
        flip_draw, color_draws = views.finetuning_draw(seed), tf.zeros(distortion.NUM_DRAWS)
    cropped = crop.crop_and_resize(image, tf.constant(box), config.data.image_size) * crop.TO_UNIT
    flips = bool(flip_draw < crop.FLIP_PROBABILITY)
    start = _Start(crop.random_flip(cropped, flip_draw), cropped, flips)
    augment = config.augment
    return start, distortion.distortion(
        color_draws, strength=augment.color_jitter_strength, impl=augment.color_jitter_impl
    )


def _device_start(
    config: Config, batch: TrainBatch, index: int, view_index: int, flip_seed: tf.Tensor
) -> _Start:
    """Computes crop and flip as `device_views` does."""
    chosen = on_device.random_flips(batch.labels.shape[0], flip_seed)[index : index + 1]
    if isinstance(batch, ImageBatch):
        images = batch.images[index : index + 1]
        boxes = batch.boxes[index : index + 1, view_index]
        cropped, flipped = (
            on_device.crop_and_resize(images, boxes, flips, config.data.image_size)
            for flips in (tf.zeros_like(chosen), chosen)
        )
    else:
        assert isinstance(batch, CropBatch), type(batch)
        cropped = on_device.to_float(batch.crops[index : index + 1, view_index])
        flipped = on_device.flip(cropped, chosen)
    return _Start(flipped[0], cropped[0], bool(chosen[0]))


def _device_distortion(config: Config, n: int, index: int, seed: tf.Tensor) -> Distortion:
    """Draws the color distortion of one image of a batch of n images."""
    augment = config.augment
    drawn = on_device.distortion(
        n, seed, strength=augment.color_jitter_strength, impl=augment.color_jitter_impl
    )
    return Distortion(
        amounts=drawn.amounts[index],
        order=on_device.order_of_image(drawn.order, index, n),
        jitters=drawn.jitters[index],
        grays=drawn.grays[index],
    )


def _color_steps(image: tf.Tensor, drawn: Distortion, impl: str, on_planes: bool) -> Iterator[Step]:
    """Yields each step of the color distortion."""
    if drawn.jitters:
        for position, j in enumerate(drawn.order.numpy()):
            op, amount = color.operations(impl)[j], drawn.amounts[j]
            if on_planes:
                planes = op.on_planes(tf.unstack(image, axis=-1), amount)
                image = tf.stack(color.clip_planes(planes), axis=-1)
            else:
                image = distortion.jitter_image(op, image, amount, is_first=position == 0)
            yield _step(op.name, _amount_note(op, float(amount)), True, image)
    else:
        note = f"color jitter skipped (p = {1 - color.JITTER_PROBABILITY:.1f})"
        yield _step(JITTER, note, False, image)
    probability = color.GRAYSCALE_PROBABILITY
    if drawn.grays:
        if on_planes:
            image = tf.stack([color.luma(tf.unstack(image, axis=-1))] * 3, axis=-1)
        else:
            image = color.to_grayscale(image)
        note = f"made gray (p = {probability:.1f})"
    else:
        note = f"not gray (p = {1 - probability:.1f})"
    yield _step("gray", note, bool(drawn.grays), image)


def _amount_note(op: Operation, amount: float) -> str:
    text = f"{op.sign} {amount:.2f}" if op.sign == "×" else f"{amount:+.2f}"
    return f"{op.name} {text}"


def _blur_step(image: tf.Tensor, n: int, index: int, seed: tf.Tensor, image_size: int) -> Step:
    sigma, chosen = blur.draw(n, seed)
    if not chosen[index]:
        return _step("blur", f"not blurred (p = {1 - blur.BLUR_PROBABILITY:.1f})", False, image)
    blurred = blur.gaussian_blur(image[tf.newaxis], image_size // 10, sigma)[0]
    return _step("blur", f"blurred, sigma {float(sigma):.1f}", True, blurred)


def _step(name: str, note: str, is_applied: bool, image: tf.Tensor) -> Step:
    return Step(name, note, is_applied, color.clip(image).numpy())
