"""Settings of several workers, which must be the same."""

import zlib

import tensorflow as tf

from tf_simclr.config import Config, settings
from tf_simclr.devices import workers
from tf_simclr.errors import ConfigError


def agree(
    config: Config, strategy: tf.distribute.Strategy, class_names: tuple[str, ...] | None
) -> Config:
    """Returns the settings with the chief's seed, which it may have drawn.

    Raises:
      ConfigError: this worker's settings or class names are not the chief's.
    """
    assert config.runtime.seed is not None
    config = config.replace(seed=workers.from_chief(strategy, config.runtime.seed))
    saved = [(name, value) for _, name, value in config.items() if settings()[name].saved]
    if not workers.all_same(strategy, zlib.crc32(repr(saved).encode())):
        raise ConfigError(
            "strategy is multi_worker, and its workers were started with "
            "different settings: give all of them the same"
        )
    if not workers.all_same(strategy, zlib.crc32(repr(class_names).encode())):
        raise ConfigError(
            "strategy is multi_worker, and its workers see different class names: give all of "
            "them the same data_dir, and a model_dir that all of them see"
        )
    return config
