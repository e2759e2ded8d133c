"""Reads the scalars of TensorBoard's event files as records, for runs without metrics.jsonl."""

import math
import os
from collections.abc import Iterable

from tf_simclr import files
from tf_simclr.training.metrics_file import EVAL, MONITOR, TRAIN, Record

_PREFIX = "events.out.tfevents."
_MAX_SCALARS = 2_000_000  # bounds the memory that hostile files can request


def read(directory: str) -> list[Record]:
    """Reads records from the event files in a directory, ordered by step. They are untrusted.

    The records have no epoch (NaN). Of two values with the same tag and step, the later one counts.

    Args:
      directory: a model_dir, or the directory of an evaluation in it.

    Raises:
      ConfigError: a file cannot be read.
    """
    if not files.is_url(directory) and not _has_events(directory):
        return []
    from tf_simclr.training import summaries  # importing TensorFlow takes seconds

    found: dict[tuple[str, int], tuple[float, dict[str, float]]] = {}
    count = 0
    for step, time, values in summaries.read_scalars(directory):
        for tag, value in values.items():
            if kind := _kind(tag):
                count += 1
                _, known = found.get((kind, step), (time, {}))
                known[tag] = value
                found[kind, step] = (time, known)
        if count > _MAX_SCALARS:
            break
    records = [
        Record(kind, step, math.nan, time, values) for (kind, step), (time, values) in found.items()
    ]
    return sorted(records, key=lambda record: record.step)


def _has_events(directory: str) -> bool:
    try:
        with os.scandir(directory) as entries:
            return any(entry.name.startswith(_PREFIX) for entry in entries)
    except OSError:
        return False


def _kind(tag: str) -> str | None:
    if tag.startswith("train/") or tag == "learning_rate":
        return TRAIN
    return {"monitor": MONITOR, "eval": EVAL}.get(tag.split("/")[0])


def merge(old: Iterable[Record], new: Iterable[Record]) -> list[Record]:
    """Joins records, ordered by step. Of two with the same kind and step, the new one counts."""
    by_key = {(record.kind, record.step): record for record in (*old, *new)}
    return sorted(by_key.values(), key=lambda record: record.step)
