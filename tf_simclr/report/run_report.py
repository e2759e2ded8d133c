"""Makes the report on one or several runs, and writes it as one HTML file."""

import time
from collections.abc import Sequence

from tf_simclr import files
from tf_simclr.errors import ConfigError, one_line
from tf_simclr.report.content import Images, Report
from tf_simclr.report.page import page
from tf_simclr.report.run_files import (
    charts,
    folders,
    overview,
    run_folder,
    settings_table,
    versions,
)
from tf_simclr.report.run_files.run_folder import Run

NAME = "report.html"
MAX_RUNS = 20  # more lines in a chart cannot be told apart


def write(path: str, report: Report) -> None:
    """Writes a report. Readers see the old file or the complete new one.

    Raises:
      ConfigError: the file cannot be written.
    """
    text = page.render(report)
    try:
        files.write_text(path, text)
    except Exception as error:  # OSError, or an error of TensorFlow
        raise ConfigError(
            f"output {path!r} cannot be written ({one_line(error)}): use another file name"
        ) from error


def make(runs: Sequence[Run], *, images: Images | None = None, notes: Sequence[str] = ()) -> Report:
    """Makes the content of a report from the files of runs, which may go on meanwhile.

    Args:
      runs: one or several runs.
      images: what the encoder of a single run has learned (`run_images.summarize`).
      notes: what is missing from the report, and why.
    """
    names = folders.short_names([run.model_dir for run in runs])
    version_facts, version_notes = versions.facts(runs, names)
    prefixes = [f"{name}: " if len(runs) > 1 else "" for name in names]
    run_notes = (
        f"{prefix}{note}" for prefix, run in zip(prefixes, runs, strict=True) for note in run.notes
    )
    return Report(
        title=runs[0].model_dir if len(runs) == 1 else f"{len(runs)} runs",
        created=time.strftime("%Y-%m-%d %H:%M"),
        overviews=tuple(overview.make(run, name) for run, name in zip(runs, names, strict=True)),
        charts=charts.make(runs, names),
        images=images,
        settings=settings_table.rows(runs),
        versions=version_facts,
        notes=(*notes, *run_notes, *version_notes),
    )


def read(model_dirs: Sequence[str]) -> list[Run]:
    """Reads the files of runs.

    Raises:
      ConfigError: there are too many, one is named twice, or one is not a run.
    """
    if len(model_dirs) > MAX_RUNS:
        raise ConfigError(
            f"model_dir must name at most {MAX_RUNS} runs, got {len(model_dirs)}: give fewer, and "
            "see `tf-simclr runs` for a table of all"
        )
    runs = [run_folder.read(model_dir) for model_dir in model_dirs]
    seen: set[str] = set()
    for run in runs:
        if run.model_dir in seen:
            raise ConfigError(f"model_dir {run.model_dir!r} is named twice: name each run once")
        seen.add(run.model_dir)
    return runs
