"""The first steps of training and evaluation: the data set, its checks, the run's length."""

import functools
import sys

import tensorflow as tf

from tf_simclr import preflight
from tf_simclr.checkpoints import class_names
from tf_simclr.config import Config
from tf_simclr.data.sources.opening import open_data
from tf_simclr.data.sources.protocol import Source
from tf_simclr.devices import same_data, workers
from tf_simclr.training.plan import Plan, make_plan


def open_source(config: Config, cluster: tf.distribute.Strategy | None = None) -> Source:
    """Opens the data set on all workers, and checks that the settings fit it.

    Args:
      config: checked settings.
      cluster: the strategy of several workers; None on a single machine.

    Raises:
      ConfigError: the settings do not fit; the data set cannot be opened; workers see different
        data.
    """
    source = same_data.open_on_all(cluster, functools.partial(open_data, config))
    preflight.check_data(config, source)
    return source


def match_classes(
    config: Config, source: Source, cluster: tf.distribute.Strategy | None = None
) -> tuple[Source, tuple[str, ...] | None]:
    """Maps the labels to the class indices of the restored head, if there is one.

    Returns:
      The data set, and the head's class names (`class_names.match`).

    Raises:
      ConfigError: the classes of the data set do not fit the head.
    """
    has_head = preflight.has_supervised_head(config)
    matched = class_names.match(config, source, has_head=has_head)
    if matched.note and (cluster is None or workers.is_chief(cluster)):
        print(matched.note, file=sys.stderr)
    return matched.source, matched.names


def check_and_plan(config: Config, source: Source) -> Plan:
    """Counts the run's steps, and checks that all the files it needs exist.

    Raises:
      ConfigError: a split is missing or too small; a file is missing.
    """
    training = config.training
    evaluates = (config.runtime.mode != "train" or training.eval_every_epochs > 0) and (
        source.num_classes is not None
        and (preflight.has_supervised_head(config) or training.probe_summary)
    )
    plan = make_plan(config, source, evaluates=evaluates)
    preflight.check_files(config, source, evaluates=evaluates)
    return plan
