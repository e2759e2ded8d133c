"""Makes charts of what runs have measured. Only what has data has a chart."""

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from tf_simclr.report.content import Chart, Line
from tf_simclr.report.run_files import chart_texts, spectra
from tf_simclr.report.run_files.chart_texts import Text
from tf_simclr.report.run_files.run_folder import Run
from tf_simclr.training.collapse import chance_level
from tf_simclr.training.metrics_file import Record

MAX_POINTS = 600
MAX_CHARTS = 60  # of one heading; a damaged file may hold any number of tags
_SECTIONS = (  # heading, texts of its tags, prefix of further tags
    ("Training", chart_texts.TRAINING, None),
    ("Diagnostics", chart_texts.DIAGNOSTICS, "monitor/"),
    ("Evaluation", chart_texts.EVALUATION, None),
    ("Speed", chart_texts.SPEED, None),
    ("Further figures", chart_texts.REST, "train/"),
)
# Of monitor/, these describe the measurement.
_NO_CHART = ("monitor/images", "monitor/seconds")


def make(runs: Sequence[Run], names: Sequence[str]) -> dict[str, tuple[Chart, ...]]:
    """Makes the charts of one or several runs.

    Args:
      runs: the runs. Several have one line each in every chart, which is empty if a run has no
        data for it.
      names: the names of the runs.

    Returns:
      {heading: charts}, in the order of the page, without empty headings.
    """
    drawn: set[str] = set(_NO_CHART)
    charts: dict[str, list[Chart]] = {}
    for heading, texts, prefix in _SECTIONS:
        tags = [*texts, *_further_tags(runs, prefix)]
        new = [tag for tag in dict.fromkeys(tags) if tag not in drawn]
        made = (_chart(runs, names, tag, texts.get(tag) or _plain_text(tag)) for tag in new)
        charts[heading] = list(itertools.islice((chart for chart in made if chart), MAX_CHARTS))
        drawn.update(new)
    if chart := spectra.chart(runs, names):
        charts["Diagnostics"].append(chart)
    charts["Evaluation"] += _named_evaluations(runs, names)
    ids: Counter[str] = Counter()
    return {
        heading: tuple(_with_unique_id(chart, ids) for chart in found)
        for heading, found in charts.items()
        if found
    }


def _with_unique_id(chart: Chart, ids: Counter[str]) -> Chart:
    """Returns the chart with an id that is not in use; different tags may give the same id."""
    ids[chart.id] += 1
    if ids[chart.id] == 1:
        return chart
    return _with_unique_id(dataclasses.replace(chart, id=_id(f"{chart.id}-{ids[chart.id]}")), ids)


def _further_tags(runs: Iterable[Run], prefix: str | None) -> list[str]:
    """Returns the tags of the runs that begin with a prefix."""
    if prefix is None:
        return []
    tags = {tag for run in runs for record in run.records for tag in record.values}
    return sorted(tag for tag in tags if tag.startswith(prefix))


def _plain_text(tag: str) -> Text:
    """Returns the text of a tag that this version does not know."""
    name = tag.split("/", 1)[-1].replace("_", " ")
    explanation = f"The run recorded this under the name {tag}; this version has no explanation."
    return Text(name[:1].upper() + name[1:], "value", explanation)


def _chart(runs: Sequence[Run], names: Sequence[str], tag: str, text: Text) -> Chart | None:
    def records(run: Run) -> Sequence[Record]:
        return run.evaluations.get("", ()) if tag.startswith("eval/") else run.records

    lines = _lines(runs, names, lambda run: _points(records(run), tag))
    if lines is None:
        return None
    reference, explanation = None, text.explanation
    if tag == "train/contrast_loss":
        reference, more = _chance(runs)
        explanation += more
    return Chart(_id(tag), text.title, explanation, "step", text.y_label, lines, reference)


def _lines(
    runs: Sequence[Run],
    names: Sequence[str],
    points: Callable[[Run], tuple[np.ndarray, np.ndarray]],
) -> tuple[Line, ...] | None:
    """Returns one line for each run; None if no run has points."""
    found = [points(run) for run in runs]
    if not any(len(x) for x, _ in found):
        return None
    if len(runs) == 1:
        return (Line("", *thin(*found[0])),)
    return tuple(Line(name, *thin(*xy)) for name, xy in zip(names, found, strict=True))


def _points(records: Iterable[Record], tag: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns steps and values of a tag."""
    pairs = [(record.step, record.values[tag]) for record in records if tag in record.values]
    values = np.array(pairs, np.float64).reshape(-1, 2)
    return values[:, 0], values[:, 1]


def thin(x: np.ndarray, y: np.ndarray, limit: int = MAX_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Thins a long line without losing its extremes.

    It divides the points into limit / 2 groups of neighbors, and keeps the lowest and the highest
    point of each group, at their own x. The first and the last point stay as well.

    Args:
      x: (n,), increasing.
      y: (n,).
      limit: number of points to keep, up to 2 more.

    Returns:
      x and y, unchanged if there are no more than `limit` points.
    """
    if len(x) <= limit:
        return x, y
    bounds = np.linspace(0, len(x), limit // 2 + 1).astype(int)
    kept = {0, len(x) - 1}
    for start, end in zip(bounds[:-1], bounds[1:], strict=True):
        kept |= {start + int(np.argmin(y[start:end])), start + int(np.argmax(y[start:end]))}
    order = np.array(sorted(kept))
    return x[order], y[order]


def _chance(runs: Sequence[Run]) -> tuple[tuple[str, float] | None, str]:
    """Returns the reference line of the contrastive loss, and a sentence for its explanation."""
    recorded = {run.settings.get("train_batch_size", 0) for run in runs}
    sizes = sorted(size for size in recorded if size > 0)
    levels = {size: chance_level(size) for size in sizes}
    if len(levels) == 1 and all("train_batch_size" in run.settings for run in runs):
        (size,) = sizes
        return (f"chance, 2 log(2 · {size} - 1)", levels[size]), ""
    if not levels:
        return None, " Chance is 2 log(2N - 1) for a batch of N images."
    listed = ", ".join(f"{level:.2f} for {size} images" for size, level in levels.items())
    return None, f" Chance depends on the batch size: {listed}."


def _named_evaluations(runs: Sequence[Run], names: Sequence[str]) -> list[Chart]:
    """Returns the charts of evaluations with --eval_name."""
    charts = []
    for name in sorted({name for run in runs for name in run.evaluations if name})[:MAX_CHARTS]:
        for tag, text in chart_texts.EVALUATION.items():
            lines = _lines(runs, names, lambda run: _points(run.evaluations.get(name, ()), tag))  # noqa: B023
            if lines:
                title = f"{text.title}, {name}"
                chart_id = _id(f"{tag}-of-{name}")
                charts.append(Chart(chart_id, title, text.explanation, "step", text.y_label, lines))
    return charts


def _id(tag: str) -> str:
    """Returns the id of a tag's chart: lower-case letters and hyphens. Digits become letters."""
    letters = re.sub("[0-9]", lambda match: "abcdefghij"[int(match[0])], tag.lower())
    return re.sub("[^a-z]+", "-", letters).strip("-") or "chart"
