"""Makes replicas on this machine's CPU, and new processes for them."""

import contextlib
import json
import os
import socket
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
import tensorflow as tf

from tf_simclr.devices import strategies

Result = TypeVar("Result")


def in_new_process(function: Callable[..., Result], *args: object) -> Result:
    """Returns function(*args), called in a new process.

    TensorFlow can split the CPU only before its first operation, and collectives of groups of
    different sizes disturb one another in one process.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def in_cluster(function: Callable[..., Result], processes: int, *args: object) -> Result:
    """Returns the chief's function(strategy, *args), called in each process of a new cluster.

    The processes run on this machine, and each of them is a replica of MultiWorkerMirroredStrategy.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(processes)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    pools = [ProcessPoolExecutor(1, mp_context=get_context("spawn")) for _ in addresses]
    try:
        results = []
        for index, pool in enumerate(pools):
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            results.append(pool.submit(_join, task, function, *args))
        return [result.result() for result in results][0]
    finally:
        # Together, because a process of a cluster ends only when all others are about to.
        with ThreadPoolExecutor(processes) as threads:
            threads.map(ProcessPoolExecutor.shutdown, pools)


def _join(task: dict, function: Callable[..., Result], *args: object) -> Result:
    """Joins the cluster and returns function(strategy, *args)."""
    os.environ["TF_CONFIG"] = json.dumps(task)
    tf.get_logger().setLevel("ERROR")
    return function(strategies.make_strategy(strategy="multi_worker"), *args)


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
