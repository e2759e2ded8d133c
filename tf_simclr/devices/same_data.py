"""Opens the data set on all workers, and checks that it is the same on all of them.

Each worker derives the number of steps from its data. Workers with different numbers of steps would
wait for each other forever.
"""

import json
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_simclr.data.sources.protocol import Source
from tf_simclr.devices import workers
from tf_simclr.errors import ConfigError, listed

_MAX_CHARACTERS = 100_000  # limit on the description of a data set that workers exchange


def open_on_all(
    strategy: tf.distribute.Strategy | None, open_data: Callable[..., Source]
) -> Source:
    """Opens the data set on the chief, which may have to prepare it, and then on other workers.

    Args:
      strategy: the strategy of the workers; None for a single worker.
      open_data: opens the data set; called as open_data(quiet=...), True to print nothing.

    Raises:
      ConfigError: on all workers, if one of them cannot open the data set or if the data sets
        differ.
    """
    if strategy is None or workers.num_workers(strategy) == 1:
        return open_data(quiet=False)
    is_chief = workers.is_chief(strategy)
    source: Source | None = None
    for opens_now in (is_chief, not is_chief):
        failure = ""
        if opens_now:
            try:
                source = open_data(quiet=not is_chief)
            except ConfigError as error:
                failure = str(error)
        _stop_all_if_one_failed(strategy, failure)
    assert source is not None
    _require_same(strategy, source)
    return source


def _stop_all_if_one_failed(strategy: tf.distribute.Strategy, failure: str) -> None:
    """Raises ConfigError on all workers if any worker failed.

    Args:
      strategy: the strategy of the workers.
      failure: why this worker cannot continue, or "".
    """
    failures = workers.gather_texts(strategy, failure)
    if failure:
        raise ConfigError(failure)
    for name, text in zip(workers.names(strategy), failures, strict=True):
        if text:
            raise ConfigError(f"{name} cannot open the data set, so all workers stop: {text}")


def _require_same(strategy: tf.distribute.Strategy, source: Source) -> None:
    """Raises ConfigError on all workers if their data sets differ, and names the difference."""
    if workers.all_same(strategy, source.fingerprint()):
        return
    contents = source.contents()
    if len(json.dumps(contents)) > _MAX_CHARACTERS:
        contents = {name: contents[name] for name in source.splits}
    texts = workers.gather_texts(strategy, json.dumps([source.fingerprint(), contents]))
    by_worker = [json.loads(text) for text in texts]
    raise ConfigError(
        f"dataset {source.name} is not the same on all workers, so all of them stop ("
        f"{_difference(workers.names(strategy), by_worker)}): give all of them the same data "
        "in --data_dir"
    )


def _difference(names: list[str], by_worker: list[tuple[int, dict[str, Any]]]) -> str:
    """Describes the first difference between a worker and the chief.

    Args:
      names: names of the workers, the chief first.
      by_worker: (fingerprint, contents) of each worker's data set.
    """
    chief, (chief_fingerprint, expected) = names[0], by_worker[0]
    worker, contents = next(
        (name, contents)
        for name, (fingerprint, contents) in zip(names, by_worker, strict=True)
        if fingerprint != chief_fingerprint
    )
    differences = [
        f"{key}: {contents.get(key, 0)} on {worker}, {expected.get(key, 0)} on {chief}"
        for key in sorted(expected.keys() | contents.keys())
        if contents.get(key, 0) != expected.get(key, 0)
    ]
    if not differences:
        return (
            f"the numbers of examples agree, but names or contents differ on {worker} and {chief}"
        )
    return listed(differences, separator="; ")
