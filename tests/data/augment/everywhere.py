"""Runs augmentation eagerly, in graphs and in Dataset.map, once or for many seeds."""

import numpy as np
import tensorflow as tf

IMAGES = ("image0", "image1", "image2")  # of golden/augment.npz


def run_everywhere(function, *arguments):
    """Returns the result, after checking that eager, graph and Dataset.map agree."""
    arguments = [tf.convert_to_tensor(argument) for argument in arguments]
    eager = function(*arguments).numpy()
    graph = tf.function(function)(*arguments).numpy()
    mapped = next(iter(tf.data.Dataset.from_tensors(tuple(arguments)).map(function))).numpy()
    np.testing.assert_allclose(graph, eager, atol=1e-5)
    np.testing.assert_allclose(mapped, eager, atol=1e-5)
    return eager


def draw(function, count, *, salt=0):
    """Calls function(seed) for many seeds, and stacks the results."""
    seeds = tf.data.Dataset.range(count).map(lambda i: tf.stack([i, tf.constant(salt, tf.int64)]))
    # AutoGraph cannot read lambdas defined in one expression, and nothing here needs it.
    function = tf.autograph.experimental.do_not_convert(function)
    return next(iter(seeds.map(function, num_parallel_calls=2).batch(count))).numpy()
