"""Says with which versions and on which devices runs were made, as far as they recorded it."""

from collections.abc import Sequence

from tf_simclr.report.content import Fact
from tf_simclr.report.run_files.run_folder import Run

_TITLES = {"tf_simclr": "tf_simclr", "tensorflow": "TensorFlow", "keras": "Keras"}
MAX_VALUES = 3


def facts(runs: Sequence[Run], names: Sequence[str]) -> tuple[tuple[Fact, ...], tuple[str, ...]]:
    """Returns the versions and devices of the last starts of runs, and notes on what is unknown.

    A value that all runs share has one fact. Otherwise there is one fact for each run.

    Args:
      runs: the runs.
      names: their names.
    """
    recorded = [(name, _of(run)) for name, run in zip(names, runs, strict=True) if run.starts]
    found = []
    for title in dict.fromkeys(title for _, values in recorded for title in values):
        by_run = {name: values.get(title, "not recorded") for name, values in recorded}
        if len(set(by_run.values())) == 1 and len(recorded) == len(runs):
            found.append(Fact(title, next(iter(by_run.values())), _earlier(runs, title)))
        else:
            found += [Fact(title, value, name) for name, value in by_run.items()]
    missing = [name for name, run in zip(names, runs, strict=True) if not run.starts]
    notes = tuple(
        f"{name}: versions and devices are unknown, because it has no readable history.json "
        "(earlier versions wrote none)."
        for name in missing
    )
    return tuple(found), notes


def _of(run: Run, start: int = -1) -> dict[str, str]:
    """Returns {title: value} of a start of a run."""
    recorded = run.starts[start]
    versions = {_TITLES.get(name, name): value for name, value in recorded.versions.items()}
    return versions | {"Device": recorded.device}


def _earlier(runs: Sequence[Run], title: str) -> str:
    """Returns a note with the values of earlier starts that differ; "" if there are none."""
    earlier = {
        _of(run, i).get(title, "not recorded"): None
        for run in runs
        for i in range(len(run.starts) - 1)
    }
    now = _of(runs[0])[title] if title in _of(runs[0]) else ""
    others = [value for value in earlier if value != now][:MAX_VALUES]
    return f"earlier starts: {', '.join(others)}" if others else ""
