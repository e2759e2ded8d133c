"""The columns of `tf-simclr runs`."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from tf_simclr.report.run_files import figures
from tf_simclr.report.run_files.run_folder import Run


class Column(NamedTuple):
    """A column of the table.

    Attributes:
      title: its title in the table for people; None to have it in the CSV only.
      value: returns a run's value: a number or a text, None if there is none.
      text: formats a value for people.
      descends: whether sorting begins with the largest value.
    """

    title: str | None
    value: Callable[[str, Run], Any]
    text: Callable[[Any], str] = str
    descends: bool = False


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def _value(figure: figures.Value | None) -> float | None:
    return None if figure is None else figure.value


def _data(name: str, run: Run) -> str | None:
    dataset, data_dir = run.settings.get("dataset"), run.settings.get("data_dir")
    if dataset == "folder" and data_dir:
        return f"folder {os.path.basename(data_dir.rstrip('/'))}"
    return dataset


def _probe(name: str, run: Run) -> float | None:
    found = figures.probe_metric(run)
    return None if found is None else found[0]


def _loss(name: str, run: Run) -> float | None:
    found = figures.loss(run)
    return None if found is None else found[1].value


COLUMNS = {
    "name": Column("run", lambda name, run: name),
    "state": Column("state", lambda name, run: run.state),
    "step": Column("step", lambda name, run: run.step, descends=True),
    "total_steps": Column(None, lambda name, run: run.total_steps, descends=True),
    "data": Column("data", _data),
    "knn": Column("kNN", lambda name, run: _value(figures.best_knn(run)), _percent, True),
    "top_1": Column("top-1", lambda name, run: _value(figures.best_top_1(run)), _percent, True),
    "probe": Column("probe", _probe, _percent, True),
    "loss": Column("loss", _loss, "{:.3f}".format),
    "model_dir": Column(None, lambda name, run: run.model_dir),
}
