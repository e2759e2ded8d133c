"""Makes replicas on this machine's CPU, and new processes for them."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
import tensorflow as tf

Result = TypeVar("Result")


def in_new_process(function: Callable[..., Result], *args: object) -> Result:
    """Returns function(*args), called in a new process.

    TensorFlow can split the CPU only before its first operation, and collectives of groups of
    different sizes disturb one another in one process.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def make_strategy(replicas: int) -> tf.distribute.MirroredStrategy:
    """Makes replicas that are parts of the CPU. Call it in a new process."""
    tf.get_logger().setLevel("ERROR")  # it warns of retracing, which is intended here
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * replicas,
    )
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])


def random(
    strategy: tf.distribute.Strategy, shape: tuple[int, ...]
) -> tf.distribute.DistributedValues:
    """Draws normally distributed values, different ones for each replica."""
    rng = np.random.default_rng(0)
    return strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(rng.standard_normal(shape, np.float32))
    )
