"""Checks that all workers have the same settings."""

import zlib

import tensorflow as tf

from tf_simclr.config import Config, settings
from tf_simclr.devices import workers
from tf_simclr.errors import ConfigError


def use_chief_seed_and_check(
    config: Config, strategy: tf.distribute.Strategy, class_names: tuple[str, ...] | None
) -> Config:
    """Returns the settings with the chief's seed, after checking that they agree on all workers.

    The chief may have drawn the seed.

    Args:
      config: checked settings; the seed must be set.
      strategy: the strategy of the workers.
      class_names: names of the supervised head's classes, or None.

    Raises:
      ConfigError: settings or class names are not the same on all workers.
    """
    assert config.runtime.seed is not None
    config = config.replace(seed=workers.from_chief(strategy, config.runtime.seed))
    saved = [(name, value) for _, name, value in config.items() if settings()[name].saved]
    if not workers.all_same(strategy, zlib.crc32(repr(saved).encode())):
        raise ConfigError(
            "strategy is multi_worker, and its workers were started with "
            "different settings: give all of them the same settings"
        )
    if not workers.all_same(strategy, zlib.crc32(repr(class_names).encode())):
        raise ConfigError(
            "strategy is multi_worker, and its workers see different class names: give all of "
            "them the same data_dir, and a model_dir that all of them see"
        )
    return config
