"""Lists folders and finds runs, within bounds: a folder may hold a data set, or link to itself."""

import itertools
import os

from tf_simclr import files
from tf_simclr.errors import ConfigError, one_line

MAX_NAMES = 100_000  # of one folder


def names(directory: str) -> set[str]:
    """Returns the names in a directory, at most MAX_NAMES of them.

    Raises:
      ConfigError: there is no such directory, or it cannot be listed.
    """
    try:
        if not files.is_url(directory):
            with os.scandir(directory) as entries:
                return {entry.name for entry in itertools.islice(entries, MAX_NAMES)}
        import tensorflow as tf

        found = {name.rstrip("/") for name in tf.io.gfile.listdir(directory)[:MAX_NAMES]}
    except FileNotFoundError:
        raise ConfigError(f"there is no directory {directory!r}: check the path") from None
    except Exception as error:  # OSError, or an error of TensorFlow for a URL
        raise ConfigError(
            f"{directory!r} cannot be listed ({one_line(error)}): give a directory that can be read"
        ) from None
    return found
