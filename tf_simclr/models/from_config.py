"""Makes the model that the settings describe."""

import dataclasses

import keras
import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.errors import ConfigError, one_line
from tf_simclr.models import bounds
from tf_simclr.models.simclr import SimCLR


def make_model(config: Config, num_classes: int | None) -> SimCLR:
    """Makes an untrained model, the same for the same seed.

    Args:
      config: the settings; the seed must be set.
      num_classes: classes of the supervised head; None for a model without one.

    Raises:
      ConfigError: the settings give no model, or no device could hold it (`bounds.check_size`).
    """
    bounds.check_size(config)
    # TensorFlow cannot combine a global seed of 0 with one that is a tensor (Dataset.shuffle).
    keras.utils.set_random_seed(config.runtime.seed or 2**31)
    precision = config.training.precision
    # Replicas cannot exchange statistics in the loop that computes micro-batches.
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    global_bn = config.model.global_bn and num_microbatches(config, replicas) == 1
    try:
        return SimCLR(
            num_classes,
            image_size=config.data.image_size,
            network=dataclasses.replace(config.model, global_bn=global_bn),
            stop_supervised_gradient=config.training.train_mode == "pretrain",
            # None is the Keras default, which is float32 unless the program has changed it.
            precision=None if precision == "float32" else precision,
        )
    except ValueError as error:  # the width_multiplier leaves a layer without channels
        raise ConfigError(
            f"width_multiplier {config.model.width_multiplier} and the other model flags make no "
            f"model: {one_line(error)}"
        ) from error


def num_microbatches(config: Config, num_replicas: int) -> int:
    """Returns the number of micro-batches in which each replica computes its part of a batch."""
    size = config.training.microbatch_size
    images = config.training.train_batch_size // num_replicas
    return max(1, images // size) if size else 1
