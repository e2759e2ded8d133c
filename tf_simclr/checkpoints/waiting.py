"""Waits for the first checkpoint of a run that trains in another process."""

import time

import tensorflow as tf

from tf_simclr.errors import ConfigError


def wait_for_first(model_dir: str, *, timeout: float | None) -> None:
    """Waits until model_dir has a checkpoint.

    Args:
      model_dir: directory of the run.
      timeout: time limit in seconds; None for no limit.

    Raises:
      ConfigError: there is still no checkpoint after the timeout.
    """
    start = time.monotonic()
    for _ in tf.train.checkpoints_iterator(model_dir, min_interval_secs=1, timeout=timeout):
        return
    raise no_checkpoint_error(model_dir, time.monotonic() - start)


def no_checkpoint_error(model_dir: str, seconds: float) -> ConfigError:
    """Makes the error for a wait that ended without a checkpoint."""
    return ConfigError(
        f"model_dir {model_dir!r} got no checkpoint in {seconds:.0f} s (eval_timeout): train there "
        "first"
    )
