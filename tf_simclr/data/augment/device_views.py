"""Finishes the views of a batch on the device: crops of small images, flips, colors, blur.

Every random number derives from the run's seed, the step, the view, and the part of the global
batch. The part is the index of the replica or, with micro-batches, the index of the micro-batch
over all replicas.
"""

import copy
import functools

import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.data.augment import blur, on_device
from tf_simclr.data.batch import CropBatch, ImageBatch, TrainBatch, ViewBatch, num_views

# Two random streams of the seed, which must not draw the same numbers.
BLUR_STREAM, DEVICE_STREAM = 1, 2  # seeds of pipeline/seeds.py are derived differently


class DeviceViews:
    """Finishes the views of a training batch, which the model then receives."""

    def __init__(self, config: Config, *, compiled: bool = False):
        """Prepares the functions; tracing happens at the first call.

        Args:
          config: uses the sections Augment and Data, train_mode and the seed, which must be set.
          compiled: whether XLA compiles the crops and colors separately. A CPU needs it. Other
            devices compile or run the whole step.
        """
        self._augment, self._seed = config.augment, config.runtime.seed
        self._image_size = config.data.image_size
        self._num_views = num_views(config.training.train_mode)
        self._pretraining = config.training.train_mode == "pretrain"
        self._compiled = compiled
        self._finish_crops, self._finish_images = self._color_crops, self._crop_and_color
        if compiled:
            jit = functools.partial(tf.function, jit_compile=True, autograph=False)
            self._finish_crops = jit(self._color_crops)
            self._finish_images = jit(self._crop_and_color)

    def with_seed(self, seed: int) -> "DeviceViews":
        """Returns a copy that draws other random numbers. It shares the compiled functions."""
        copied = copy.copy(self)
        copied._seed = seed
        return copied

    def views(
        self, batch: TrainBatch, *, step: tf.Tensor | int, part: tf.Tensor | int
    ) -> list[tf.Tensor]:
        """Returns the views of n images: two per image in pretraining, else one.

        Args:
          batch: a batch of n images.
          step: index of the step, an integer scalar.
          part: index of this part of the global batch (see above), an integer scalar.

        Returns:
          float32 (n, s, s, 3) in [0, 1] for each view.
        """
        views = [
            self._view(batch, view_index, self._seed_of(DEVICE_STREAM, step, part, view_index))
            for view_index in range(self._num_views)
        ]
        if not (self._pretraining and self._augment.use_blur):
            return views
        return [
            blur.random_blur(
                view,
                self._seed_of(BLUR_STREAM, step, part, view_index),
                image_size=self._image_size,
            )
            for view_index, view in enumerate(views)
        ]

    def preview(
        self, batch: TrainBatch, *, step: tf.Tensor | int, count: int, microbatch_size: int = 0
    ) -> tf.Tensor:
        """Returns the first views of the first images, not blurred, for an image summary.

        The views are drawn anew, from other random numbers than the step's. Compiled code is called
        with the step's batch size, because another shape would recompile, which takes seconds.
        Otherwise only `count` images are computed, to save memory.

        Args:
          batch: at least `count` images.
          step: index of the step.
          count: number of images to show.
          microbatch_size: number of images that the step computes at a time; 0 for the whole batch.

        Returns:
          float32 (count, s, s, 3) in [0, 1].
        """
        computed = (microbatch_size or None) if self._compiled else count
        first = tf.nest.map_structure(lambda part: part[:computed], batch)
        return self._view(first, 0, self._seed_of(DEVICE_STREAM, step, 0, 0))[:count]

    @functools.singledispatchmethod
    def _view(self, batch, view_index: int, seed: tf.Tensor) -> tf.Tensor:
        """Finishes one view of each image, except for the blur."""
        raise TypeError(f"{type(batch).__name__} is not a training batch")

    @_view.register
    def _(self, batch: ViewBatch, view_index: int, seed: tf.Tensor) -> tf.Tensor:
        return batch.views[:, view_index]

    @_view.register
    def _(self, batch: CropBatch, view_index: int, seed: tf.Tensor) -> tf.Tensor:
        return self._finish_crops(batch.crops[:, view_index], seed)

    @_view.register
    def _(self, batch: ImageBatch, view_index: int, seed: tf.Tensor) -> tf.Tensor:
        return self._finish_images(batch.images, batch.boxes[:, view_index], seed)

    def _color_crops(self, crops: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        flip_seed, color_seed = _split(seed)
        flips = on_device.random_flips(crops.shape[0], flip_seed)
        return self._color(on_device.flip(on_device.to_float(crops), flips), color_seed)

    def _crop_and_color(self, images: tf.Tensor, boxes: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        flip_seed, color_seed = _split(seed)
        flips = on_device.random_flips(images.shape[0], flip_seed)
        crops = on_device.crop_and_resize(images, boxes, flips, self._image_size)
        return self._color(crops, color_seed)

    def _color(self, view: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        if not self._pretraining:
            return view
        return on_device.color_distortion(
            view,
            seed,
            strength=self._augment.color_jitter_strength,
            impl=self._augment.color_jitter_impl,
        )

    def _seed_of(self, stream: int, step, part, view_index: int) -> tf.Tensor:
        seed = tf.constant([self._seed, stream], tf.int32)
        for value in (step, part, view_index):
            # Philox draws the same numbers on every device, with XLA and without.
            seed = tf.random.experimental.stateless_fold_in(
                seed, tf.cast(value, tf.int32), alg="philox"
            )
        return seed


def _split(seed: tf.Tensor) -> list[tf.Tensor]:
    return tf.unstack(tf.random.experimental.stateless_split(seed, 2, alg="philox"))
