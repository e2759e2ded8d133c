"""Reads the results in a model_dir: result.json, best/result.json and result_probe.json."""

import dataclasses
import math
import os
import re
from collections.abc import Mapping

from tf_simclr import files
from tf_simclr.errors import ConfigError

_RESULT = re.compile(r"result(_(?!probe\.)[A-Za-z0-9._-]{1,100})?\.json")
_OF_A_STEP = re.compile(r"result(_.*)?_[0-9]+\.json")  # copies, one for each evaluation
BEST = "best/result.json"
PROBE = "result_probe.json"


@dataclasses.dataclass(frozen=True)
class Probe:
    """The content of result_probe.json.

    Attributes:
      metric: the metric that the literature reports: "top_1" or "mean_per_class".
      dataset: the data set.
      accuracies: {encoder: {classifier: {metric: value}}}, such as
        {"pretrained": {"logistic": {"top_1": 0.93}}}.
    """

    metric: str
    dataset: str
    accuracies: Mapping[str, Mapping[str, Mapping[str, float]]]


def read_results(model_dir: str, names: set[str], notes: list[str]) -> dict[str, dict[str, float]]:
    """Reads the results of evaluations. Values that are not finite numbers are left out.

    Args:
      model_dir: directory of the run.
      names: names of the files in it.
      notes: a file that cannot be read adds a note.

    Returns:
      {file: {metric: value}}, with the name of the file relative to model_dir.
    """
    wanted = [n for n in sorted(names) if _RESULT.fullmatch(n) and not _OF_A_STEP.fullmatch(n)]
    found = {}
    for name in [*wanted, BEST]:
        path = os.path.join(model_dir, name)
        try:
            if files.is_file(path):
                found[name] = _numbers(files.read_json_object(path))
        except ConfigError as error:
            notes.append(str(error))
    return found


def read_probe(model_dir: str) -> Probe | None:
    """Reads result_probe.json; None if there is none. Accuracies that are no numbers are left out.

    Raises:
      ConfigError: the file cannot be read, or it is not the result of mode=probe.
    """
    path = os.path.join(model_dir, PROBE)
    if not files.is_file(path):
        return None
    content = files.read_json_object(path)
    encoders, metric, dataset = (content.get(name) for name in ("encoders", "metric", "dataset"))
    if not (isinstance(encoders, dict) and isinstance(metric, str) and isinstance(dataset, str)):
        raise ConfigError(f"{path} is not the result of --mode=probe: remove it, or probe again")
    accuracies = {
        encoder: {
            name: _numbers(values) for name, values in classifiers.items() if type(values) is dict
        }
        for encoder, classifiers in encoders.items()
        if isinstance(classifiers, dict)
    }
    return Probe(metric, dataset, accuracies)


def _numbers(values: Mapping[str, object]) -> dict[str, float]:
    """Returns the values that are finite numbers; int is for counts such as global_step."""
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= 2**53
        and math.isfinite(value)
    }
