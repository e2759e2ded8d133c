"""The figures by which runs are compared: the last and the best value of each measurement."""

import dataclasses
from collections.abc import Iterator

from tf_simclr.checkpoints.result_files import TOP_1
from tf_simclr.report.run_files.run_folder import Run
from tf_simclr.report.run_files.run_results import BEST
from tf_simclr.training.metrics_file import MONITOR, TRAIN

KNN, RANK = "monitor/knn_top_1", "monitor/rankme"
CONTRASTIVE, TOTAL = "train/contrast_loss", "train/total_loss"


@dataclasses.dataclass(frozen=True)
class Value:
    """A value that was measured at a step; None if the step is unknown."""

    value: float
    step: int | None


def series(run: Run, tag: str) -> list[Value]:
    """Returns the values of a tag in the records of training, ordered by step."""
    return [Value(r.values[tag], r.step) for r in run.records if tag in r.values]


def last(run: Run, tag: str) -> Value | None:
    """Returns the last value of a tag; None if there is none."""
    return next(
        (Value(r.values[tag], r.step) for r in reversed(run.records) if tag in r.values), None
    )


def best_knn(run: Run) -> Value | None:
    """Returns the highest accuracy of nearest neighbors during pretraining, in [0, 1]."""
    return _highest(series(run, KNN))


def best_top_1(run: Run) -> Value | None:
    """Returns the highest top-1 accuracy of the supervised head on the evaluation split."""
    return _highest(list(_evaluations(run)))


def last_top_1(run: Run) -> Value | None:
    """Returns the top-1 accuracy of the supervised head at its last evaluation."""
    return max(_evaluations(run), key=lambda value: value.step or 0, default=None)


def _evaluations(run: Run) -> Iterator[Value]:
    """Yields the evaluations on eval_split, in several files the same ones."""
    for record in run.evaluations.get("", ()):
        if TOP_1 in record.values:
            yield Value(record.values[TOP_1], record.step)
    for name in ("result.json", BEST):
        values = run.results.get(name, {})
        if TOP_1 in values:
            step = values.get("global_step")
            yield Value(values[TOP_1], None if step is None else int(step))


def probe_metric(run: Run) -> tuple[float, str] | None:
    """Returns the accuracy of a linear probe on the trained encoder, and how it was measured.

    The thorough probe of --mode=probe counts before the quick one of --probe_summary.
    """
    if run.probe:
        values = run.probe.accuracies.get("pretrained", {}).get("logistic", {})
        if run.probe.metric in values:
            name = run.probe.metric.replace("_", " ").replace("top 1", "top-1")
            return values[run.probe.metric], f"logistic regression on {run.probe.dataset}, {name}"
    summary = probe_summary(run)
    if "probe/pretrained" in summary:
        return summary["probe/pretrained"], "quick probe at the end of training, top-1"
    return None


def probe_summary(run: Run) -> dict[str, float]:
    """Returns the figures of --probe_summary, {name: accuracy}; {} if there are none."""
    for start in reversed(run.starts):
        if start.end and any(name.startswith("probe/") for name in start.end.results):
            return dict(start.end.results)
    return {}


def loss(run: Run) -> tuple[str, Value] | None:
    """Returns the last training loss and its tag: contrastive if the run has one, else total."""
    for tag in (CONTRASTIVE, TOTAL):
        if value := last(run, tag):
            return tag, value
    return None


def epochs(run: Run) -> float | None:
    """Returns the number of epochs at the last record; None if it is unknown."""
    known = [r.epoch for r in run.records if r.kind in (TRAIN, MONITOR) and r.epoch == r.epoch]
    return max(known, default=None)


def _highest(values: list[Value]) -> Value | None:
    return max(values, key=lambda value: value.value, default=None)
