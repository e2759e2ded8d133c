"""Gives each replica its part of a data set's batches."""

from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

from tf_simclr.devices import strategies


def distribute(
    strategy: tf.distribute.Strategy,
    make: Callable[[tf.distribute.InputContext], tf.data.Dataset],
) -> Iterable[Any]:
    """Makes a data set whose elements `strategy.run` takes, one part for each replica.

    A single CPU reads the data set itself. tf.distribute would copy each batch once more, and would
    start a thread of tf.data that delays the end of a run (`data.pipeline.groups.prefetched`).

    Args:
      strategy: the strategy whose replicas read the data set.
      make: makes the data set of an input pipeline; its elements are batches of one replica.
    """
    if isinstance(strategy, tf.distribute.OneDeviceStrategy) and strategies.on_cpu(strategy):
        return make(tf.distribute.InputContext())
    return strategy.distribute_datasets_from_function(make)
