"""Writes a directory whose files appear all at once, or not at all."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from tf_simclr.errors import ConfigError, one_line


def check(output: str) -> None:
    """Raises ConfigError if a directory exists and is not empty."""
    if tf.io.gfile.exists(output) and (
        not tf.io.gfile.isdir(output) or tf.io.gfile.listdir(output)
    ):
        raise ConfigError(
            f"output {output!r} exists and is not an empty directory: remove it, or use another"
        )


@contextlib.contextmanager
def written(output: str) -> Iterator[str]:
    """Yields a directory to write into. It gets the name `output` when the block ends.

    Args:
      output: the new directory (`check`).

    Raises:
      ConfigError: a file cannot be written. Nothing is left behind then, nor after any other error.
    """
    unfinished = output + ".unfinished"
    try:
        _remove(unfinished)
        tf.io.gfile.makedirs(unfinished)
        yield unfinished
        _remove(output)
        tf.io.gfile.rename(unfinished, output)
    except (tf.errors.OpError, OSError) as error:
        raise ConfigError(
            f"output {output!r} cannot be written ({one_line(error)}): use another directory"
        ) from error
    finally:
        with contextlib.suppress(tf.errors.OpError, OSError):
            _remove(unfinished)


def _remove(directory: str):
    if tf.io.gfile.exists(directory):
        tf.io.gfile.rmtree(directory)
