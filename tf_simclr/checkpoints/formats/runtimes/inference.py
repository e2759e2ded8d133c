"""The part of a model that ONNX and TFLite files hold: from images to a vector per endpoint."""

import os
from typing import Any

import tensorflow as tf

from tf_simclr.checkpoints.formats.runtimes.sessions import ENDPOINTS, INPUT
from tf_simclr.errors import ConfigError
from tf_simclr.models.simclr import SimCLR

# Protocol buffers and FlatBuffers have offsets of 31 bits.
MAX_BYTES = 2**31 - 1


def function(model: SimCLR, image_size: int | None) -> tuple[Any, tf.TensorSpec]:
    """Makes the function of inference, for any batch size.

    Args:
      model: the model, in float32.
      image_size: side of the images in pixels; None for images of any size.

    Returns:
      A tf.function from images, float32 (n, s, s, 3) in [0, 1], to {endpoint: (n, width)}, and the
      specification of the images. The endpoints are those in ENDPOINTS that the model has.
    """
    images = tf.TensorSpec((None, image_size, image_size, 3), tf.float32, name=INPUT)

    @tf.function(autograph=False, input_signature=[images])
    def inference(images):
        endpoints = model(images, training=False)
        if not model.projection_layers:
            del endpoints["proj_head_output"]  # it would be final_avg_pool again
        return {name: endpoints[name] for name in ENDPOINTS if name in endpoints}

    return inference, images


def check_size(model: SimCLR, path: str, *, bytes_per_value: int) -> None:
    """Checks that a format with offsets of 31 bits can hold a model.

    Raises:
      ConfigError: the weights are too large.
    """
    variables = model.variables_by_path().values()
    size = bytes_per_value * sum(variable.shape.num_elements() for variable in variables)
    if size > MAX_BYTES:
        raise ConfigError(
            f"{os.path.basename(path)} cannot be written: the weights take {size / 2**30:.1f} GiB, "
            "and this format holds at most 2 GiB: export a SavedModel instead"
        )


def write_bytes(path: str, content: bytes) -> None:
    """Writes a file, which gets its name only when it is complete."""
    unfinished = path + ".unfinished"
    with open(unfinished, "wb") as file:
        file.write(content)
    os.replace(unfinished, path)
