"""Blurs batches on the device."""

import tensorflow as tf

from tf_simclr.data.augment import color
from tf_simclr.data.augment.draws import uniform

BLUR_PROBABILITY = 0.5
_SIGMA_RANGE = (0.1, 2.0)  # pixels


def gaussian_kernel(radius: int, sigma: float) -> tf.Tensor:
    """Returns normalized Gaussian weights, float32 (2 radius + 1,); sigma in pixels."""
    offsets = tf.range(-radius, radius + 1, dtype=tf.float32)
    weights = tf.exp(-tf.square(offsets) / (2.0 * tf.square(tf.cast(sigma, tf.float32))))
    return weights / tf.reduce_sum(weights)


def gaussian_blur(images: tf.Tensor, kernel_size: int, sigma: float) -> tf.Tensor:
    """Blurs images (n, h, w, c), with 2 (kernel_size // 2) + 1 taps and SAME zero padding.

    Args:
      images: the images, (n, h, w, c).
      kernel_size: side of the kernel in pixels.
      sigma: standard deviation of the kernel in pixels.
    """
    weights = gaussian_kernel(kernel_size // 2, sigma)
    channels = images.shape[-1]
    for shape in ((-1, 1, 1, 1), (1, -1, 1, 1)):
        kernel = tf.tile(tf.reshape(weights, shape), (1, 1, channels, 1))
        kernel = tf.cast(kernel, images.dtype)
        images = tf.nn.depthwise_conv2d(images, kernel, strides=(1, 1, 1, 1), padding="SAME")
    return images


def random_blur(
    images: tf.Tensor, seed: tf.Tensor, *, image_size: int, probability: float = BLUR_PROBABILITY
) -> tf.Tensor:
    """Blurs each image with the given probability, and clips to [0, 1].

    The kernel side is image_size // 10 pixels. Sigma is uniform in [0.1, 2] pixels. As in the
    official code, it is drawn once per batch (the paper, appendix A, draws it per image). The
    result for a seed does not depend on the device or on XLA.

    Args:
      images: one view of each image of a batch, (n, h, w, 3) in [0, 1].
      seed: integers (2,).
      image_size: side of a view in pixels.
      probability: probability that an image is blurred.

    Returns:
      Blurred images of the same shape and dtype.
    """
    sigma, chosen = draw(images.shape[0] or tf.shape(images)[0], seed, probability=probability)
    blurred = gaussian_blur(images, image_size // 10, sigma)
    chosen = chosen[:, tf.newaxis, tf.newaxis, tf.newaxis]
    return tf.cast(color.clip(tf.where(chosen, blurred, images)), images.dtype)


def draw(
    n: int | tf.Tensor, seed: tf.Tensor, *, probability: float = BLUR_PROBABILITY
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws the blur of a batch of n images.

    Returns:
      Sigma in pixels, float32 (), and which images to blur, bool (n,).
    """
    # Philox, because the default algorithm depends on the device.
    seeds = tf.random.experimental.stateless_split(seed, 2, alg="philox")
    sigma_seed, choice_seed = tf.unstack(seeds)
    low, high = _SIGMA_RANGE
    sigma = uniform([], sigma_seed) * (high - low) + low
    return sigma, uniform([n], choice_seed) < probability
