"""Makes the chart of the singular values of features."""

from collections.abc import Sequence

import numpy as np

from tf_simclr.models.size import feature_channels
from tf_simclr.report.content import Chart, Line
from tf_simclr.report.run_files.chart_texts import SPECTRUM
from tf_simclr.report.run_files.run_folder import Run
from tf_simclr.training.metrics_file import MONITOR, Record
from tf_simclr.training.monitor import MAX_SPECTRUM


def chart(runs: Sequence[Run], names: Sequence[str]) -> Chart | None:
    """Makes a chart with two logarithmic axes; None if no run has recorded a spectrum.

    A single run has a line for its first, middle and last measurement. Several runs have one line
    each, of the last measurement; the line is empty if there is none.
    """
    spectra = [_measured(run) for run in runs]
    if not any(spectra):
        return None
    if len(runs) == 1:
        (found,) = spectra
        chosen = sorted({0, len(found) // 2, len(found) - 1})
        lines = [_line(f"step {found[i][0].step:,}", found[i][1]) for i in chosen]
    else:
        lines = [
            _line(name, found[-1][1] if found else np.zeros((0, 2)))
            for name, found in zip(names, spectra, strict=True)
        ]
    return Chart(
        id="spectrum",
        title=SPECTRUM.title,
        explanation=SPECTRUM.explanation,
        x_label="rank",
        y_label=SPECTRUM.y_label,
        lines=tuple(lines),
        log_x=True,
        log_y=True,
    )


def _line(name: str, points: np.ndarray) -> Line:
    return Line(name, points[:, 0], points[:, 1])


def _measured(run: Run) -> list[tuple[Record, np.ndarray]]:
    """Returns the records with a spectrum, and its points (n, 2): rank and value."""
    found = []
    for record in run.of_kind(MONITOR):
        values = np.asarray(record.spectrum, np.float64)
        ranks = _ranks(run, record)
        if ranks is not None and len(values):
            points = np.stack([ranks, values], axis=1)
            points = points[points[:, 1] > 0]  # a logarithmic axis has no 0
            if len(points):
                found.append((record, points))
    return found


def _ranks(run: Run, record: Record) -> np.ndarray | None:
    """Returns the ranks of the singular values that a record keeps, from 1; None if unknown.

    A record of MAX_SPECTRUM values may be a selection, evenly spaced by rank (`monitor.thin`).
    """
    count = len(record.spectrum)
    if count < MAX_SPECTRUM:
        return np.arange(1, count + 1, dtype=np.float64)
    depth, width = (run.settings.get(name) for name in ("resnet_depth", "width_multiplier"))
    images = record.values.get("monitor/images")
    if count > MAX_SPECTRUM or depth is None or width is None or images is None:
        return None
    total = min(int(images), feature_channels(depth, width))
    if total < count:
        return None
    return 1 + np.rint(np.linspace(0, total - 1, count))
