"""The views of a batch, finished on the device: crops of small images, flips, colors, blur.

Every random number derives from the run's seed, the step, the view, and the part of the global
batch. The part is the number of the replica or, with micro-batches, the number of the micro-batch
among those of all replicas.
"""

import functools

import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.data.augment import blur, on_device
from tf_simclr.data.batch import CropBatch, ImageBatch, TrainBatch, ViewBatch, num_views

# Two uses of the seed that must not draw the same numbers.
BLUR_STREAM, DEVICE_STREAM = 1, 2


class DeviceViews:
    """Makes the views that the model sees of a training batch."""

    def __init__(self, config: Config, *, compiled: bool = False):
        """Traces nothing yet.

        Args:
          config: its sections Augment and Data, train_mode, and the seed, which must be set.
          compiled: whether XLA compiles the crops and colors by themselves. A CPU needs it; other
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

    def views(
        self, batch: TrainBatch, *, step: tf.Tensor | int, part: tf.Tensor | int
    ) -> list[tf.Tensor]:
        """Returns the views of n images: two of each in pretraining, else one.

        Args:
          batch: of n images.
          step: number of the step, an integer scalar.
          part: which part of the global batch this is (see above), an integer scalar.

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
        """Returns the first views of the first images, not blurred, for a picture.

        The device makes them once more. What XLA has compiled is called for as many images as the
        step calls it, because another number would be compiled anew, which takes seconds. Otherwise
        few images spare the memory.

        Args:
          batch: at least `count` images.
          step: number of the step.
          count: how many images to show.
          microbatch_size: how many images the step computes at a time; 0 for the whole batch.

        Returns:
          float32 (count, s, s, 3) in [0, 1].
        """
        computed = (microbatch_size or None) if self._compiled else count
        first = tf.nest.map_structure(lambda part: part[:computed], batch)
        return self._view(first, 0, self._seed_of(DEVICE_STREAM, step, 0, 0))[:count]

    @functools.singledispatchmethod
    def _view(self, batch, view_index: int, seed: tf.Tensor) -> tf.Tensor:
        """Finishes one view of each image, but for the blur."""
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
