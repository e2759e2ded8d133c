"""Writes and reads metrics.jsonl: everything that a run measures, one JSON object per line.

docs/metrics.md has the schema. The file needs no library to read. It is only ever appended to,
except that a resumed run first removes the lines of the steps that it will repeat.
"""

import dataclasses
from collections.abc import Mapping, Sequence

NAME = "metrics.jsonl"
TRAIN, MONITOR, EVAL = "train", "monitor", "eval"


@dataclasses.dataclass(frozen=True)
class Record:
    """One line of metrics.jsonl.

    Attributes:
      kind: TRAIN (a summary of the steps since the last one), MONITOR or EVAL.
      step: number of steps taken.
      epoch: number of epochs seen.
      time: seconds since 1970.
      values: {tag: value}, with the tags of TensorBoard, such as "train/contrast_loss".
      spectrum: singular values of the features, the largest first, divided by the largest; only of
        kind MONITOR.
      warnings: warnings that the run printed at this step.
    """

    kind: str
    step: int
    epoch: float
    time: float
    values: Mapping[str, float]
    spectrum: Sequence[float] = ()
    warnings: Sequence[str] = ()


def read(directory: str) -> list[Record]:
    """Reads the metrics of a run, ordered by step. The file is untrusted.

    Args:
      directory: a model_dir, or the directory of an evaluation in it.

    Returns:
      The records; empty if there is no file.
    """
    raise NotImplementedError
