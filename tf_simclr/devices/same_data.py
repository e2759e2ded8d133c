"""A data set opened by all workers, which must find the same in it.

Each worker derives the number of steps from what it sees, and workers of different numbers would
wait for each other for ever.
"""

import json
from collections.abc import Callable

import tensorflow as tf

from tf_simclr.data.sources.protocol import Source
from tf_simclr.devices import workers
from tf_simclr.errors import ConfigError

_DIFFERENCES_SHOWN = 3
_LONGEST = 100_000  # characters


def open_on_all(strategy: tf.distribute.Strategy | None, open_data: Callable) -> Source:
    """Opens the data set: first the chief, which may have to prepare it, then the other workers.

    Args:
      strategy: of the workers; None for a single one.
      open_data: function of quiet (say nothing on stderr) that returns a Source.

    Raises:
      ConfigError: on every worker, if one of them cannot open it or sees another one.
    """
    if strategy is None or workers.num_workers(strategy) == 1:
        return open_data(quiet=False)
    is_chief = workers.is_chief(strategy)
    source = None
    for opens_now in (is_chief, not is_chief):
        failure = ""
        if opens_now:
            try:
                source = open_data(quiet=not is_chief)
            except ConfigError as error:
                failure = str(error)
        _stop_all(strategy, failure)
    _require_same(strategy, source)
    return source


def _stop_all(strategy: tf.distribute.Strategy, failure: str) -> None:
    """Raises ConfigError on all workers if one calls with a text: its own, or another's."""
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
    if len(json.dumps(contents)) > _LONGEST:
        contents = {name: contents[name] for name in source.splits}
    texts = workers.gather_texts(strategy, json.dumps([source.fingerprint(), contents]))
    all_contents = [json.loads(text) for text in texts]
    raise ConfigError(
        f"dataset {source.name} is not the same on all workers, so all of them stop ("
        f"{_difference(workers.names(strategy), all_contents)}): give all of them the same data "
        "in --data_dir"
    )


def _difference(names: list[str], all_contents: list[tuple[int, dict]]) -> str:
    """What tells the first worker that differs from the chief, for a message.

    Args:
      names: of the workers, the chief first.
      all_contents: for each its data set's fingerprint and `contents`.
    """
    (chief, *others), (expected, *found) = names, all_contents
    other, content = next(
        (name, content)
        for name, content in zip(others, found, strict=True)
        if content[0] != expected[0]
    )
    expected, content = expected[1], content[1]
    different = [
        f"{key}: {content.get(key, 0)} on {other}, {expected.get(key, 0)} on {chief}"
        for key in sorted(expected.keys() | content.keys())
        if content.get(key, 0) != expected.get(key, 0)
    ]
    if not different:
        return f"the numbers of examples agree, but names or contents differ on {other} and {chief}"
    more = len(different) - _DIFFERENCES_SHOWN
    return "; ".join(different[:_DIFFERENCES_SHOWN]) + (f" and {more} more" if more > 0 else "")
