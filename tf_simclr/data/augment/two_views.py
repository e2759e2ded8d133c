"""Makes two random views of each image of a batch, for custom training loops."""

from collections.abc import Sequence

import tensorflow as tf

from tf_simclr.data.augment import blur, crop, on_device


def augmentation(
    images: tf.Tensor,
    *,
    image_size: int | None = None,
    color_jitter_strength: float = 1.0,
    color_jitter_impl: str = "simclrv2",
    use_blur: bool = True,
    seed: Sequence[int] | tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Makes two random views of each image: crop, flip, color distortion, blur (paper, appendix A).

    Works eagerly, in a tf.function and in Dataset.map, on images of one static shape. The
    distributions are the same as in `tf_simclr.run`, with other random numbers.

    Example:
      >>> import numpy as np
      >>> from tf_simclr import augmentation
      >>> images = np.random.default_rng(0).integers(0, 256, (8, 48, 48, 3), dtype=np.uint8)
      >>> view1, view2 = augmentation(images, image_size=32, color_jitter_strength=0.5)
      >>> view1.shape, view2.dtype
      (TensorShape([8, 32, 32, 3]), tf.float32)

    Args:
      images: (n, h, w, 3), uint8 or float in [0, 1].
      image_size: side s of the views in pixels; None for the height of the images.
      color_jitter_strength: >= 0; 0.5 suits CIFAR-10.
      color_jitter_impl: "simclrv2" multiplies the brightness, "simclrv1" adds to it.
      use_blur: whether to blur half of the views. The paper does not blur on CIFAR-10.
      seed: two integers; the same seed gives the same views. None for new views in each call.

    Returns:
      View 1 and view 2, float32 (n, s, s, 3) in [0, 1].
    """
    images = tf.convert_to_tensor(images)
    if images.dtype.is_floating:
        images *= 255
    if seed is None:
        seed = tf.random.uniform([2], maxval=2**31 - 1, dtype=tf.int32)

    def view(seed: tf.Tensor) -> tf.Tensor:
        n, height, width, _ = images.shape
        side = image_size or height
        crop_seed, flip_seed, color_seed, blur_seed = _split(seed, 4)
        boxes = crop.random_crop_boxes(n, crop_seed, height, width)
        flips = on_device.random_flips(n, flip_seed)
        crops = on_device.crop_and_resize(images, boxes, flips, side)
        distorted = on_device.color_distortion(
            crops, color_seed, strength=color_jitter_strength, impl=color_jitter_impl
        )
        if not use_blur:
            return distorted
        return blur.random_blur(distorted, blur_seed, image_size=side)

    seed1, seed2 = _split(tf.convert_to_tensor(seed), 2)
    return view(seed1), view(seed2)


def _split(seed: tf.Tensor, count: int) -> list[tf.Tensor]:
    # Philox gives the same numbers on every device.
    return tf.unstack(tf.random.experimental.stateless_split(seed, count, alg="philox"))
