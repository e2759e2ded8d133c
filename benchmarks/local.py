"""Replicas on this machine's CPU, and new processes for them."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import tensorflow as tf


def in_new_process(function: Callable, *args):
    """function(*args) of a new process.

    TensorFlow splits the CPU only before its first operation, and collectives of groups of
    different sizes disturb one another in one process.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def make_strategy(replicas: int) -> tf.distribute.MirroredStrategy:
    """Replicas that are parts of the CPU, also where there are GPUs. For a new process."""
    tf.get_logger().setLevel("ERROR")  # it warns of retracing, which is meant here
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * replicas,
    )
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])


def random(strategy, shape: tuple[int, ...]):
    """Normally distributed values, other ones on each replica."""
    rng = np.random.default_rng(0)
    return strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(rng.standard_normal(shape, np.float32))
    )
