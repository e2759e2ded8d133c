"""Compares the settings of runs with each other and with their defaults."""

from collections.abc import Sequence
from typing import Any

from tf_simclr.config import settings
from tf_simclr.report.content import SettingRow
from tf_simclr.report.run_files.run_folder import Run

# Where data lies and how files are kept is no difference between runs.
_NO_DIFFERENCE = ("keep_checkpoint_max", "keep_hub_module_max", "cache_dataset")
_MISSING = object()


def rows(runs: Sequence[Run]) -> tuple[SettingRow, ...]:
    """Returns a row for each saved setting: first those that differ between runs.

    A run's value is "" if the version that made it has no such setting. A run whose settings cannot
    be read has only such values, and counts in no comparison. Its notes say why.
    """
    readable = [run.settings for run in runs if run.settings]
    if not readable:
        return ()
    found = []
    for name, spec in settings().items():
        if not spec.saved:
            continue
        values = [values.get(name, _MISSING) for values in readable]
        # A run without the setting behaves like one with its default.
        effective = [spec.default if v is _MISSING else spec.normalize(v) for v in values]
        found.append(
            SettingRow(
                section=spec.section,
                name=name,
                values=tuple(_text(run.settings.get(name, _MISSING)) for run in runs),
                default=_text(spec.default),
                differs=any(value != effective[0] for value in effective),
            )
        )
    return tuple(sorted(found, key=lambda row: not row.differs))


def differences(first: Run, other: Run) -> str:
    """Says how the settings of a run differ from those of the first: "temperature 0.5, seed 3".

    Returns:
      The settings with the values of the other run; "" if there is no difference, or if the
      settings of one of them cannot be read.
    """
    if not (first.settings and other.settings):
        return ""
    # The directory of a folder of images is the data set; that of TFDS may be anywhere.
    is_folder = "folder" in (first.settings.get("dataset"), other.settings.get("dataset"))
    changed = []
    for name, spec in settings().items():
        if not spec.saved or name in _NO_DIFFERENCE or (name == "data_dir" and not is_folder):
            continue
        before, now = (
            spec.normalize(run.settings.get(name, spec.default)) for run in (first, other)
        )
        if before != now:
            changed.append(f"{name} {_text(now)}")
    return ", ".join(changed)


def _text(value: Any) -> str:
    """Returns a value as text; "" for a missing one."""
    return "" if value is _MISSING else str(value)
