"""Lists the runs below a folder: state, step, data, best figures and settings that differ.

tf-simclr runs runs
tf-simclr runs runs --sort=knn
tf-simclr runs runs --csv > runs.csv

Columns: kNN is the best top-1 accuracy of nearest neighbors during pretraining. top-1 is the best
accuracy of the supervised head on the evaluation split, which in pretraining is a linear classifier
on the features. probe is the accuracy of logistic regression on the features of the trained encoder
(--mode=probe, otherwise --probe_summary). loss is the last contrastive loss, or the total loss of
other training. Columns without any value are left out.

States: training, finished, stopped (by a signal, or killed), stopped early (--stop_after),
diverged (the loss became infinite or NaN), unknown (an earlier version did not record the length of
the run, or its folder is remote).
"""

import csv
import io
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from tf_simclr.cli import arguments, quiet, text_table
from tf_simclr.cli.run_columns import COLUMNS
from tf_simclr.cli.text_table import printable
from tf_simclr.errors import ConfigError, did_you_mean
from tf_simclr.report.run_files import folders, run_folder, settings_table
from tf_simclr.report.run_files.run_folder import Run

MAX_NOTES = 10
DIFFERS = "differs"  # title of the last column of the CSV


def main(argv: Sequence[str], *, program: str = "tf-simclr runs") -> None:
    """Prints the table.

    Args:
      argv: the words after "runs".
      program: the words before argv, for messages.

    Raises:
      SystemExit: with status 1 or 2 after an error.
    """
    parser = arguments.make_parser(program, __doc__)
    parser.add_argument("folder", metavar="DIR", type=os.path.expanduser, help="folder to search")
    parser.add_argument(
        "--sort",
        metavar="COLUMN",
        default="name",
        help=f"column to sort by: {', '.join(COLUMNS)} (default: %(default)s). Accuracies and "
        "steps begin with the highest, the loss with the lowest. Runs without a value come last.",
    )
    parser.add_argument(
        "--csv",
        action="store_true",
        help="print CSV (RFC 4180), with accuracies in [0, 1]. A text that begins with =, +, -, @ "
        "or ' gets an apostrophe in front, so that no spreadsheet takes it for a formula. Control "
        "characters are written as escapes such as \\x1b.",
    )
    args = parser.parse_args(argv)
    # A name may have characters that the terminal's encoding lacks.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace", newline="" if args.csv else None)
    try:
        if args.sort not in COLUMNS:
            raise ConfigError(
                f"--sort must be one of {', '.join(COLUMNS)}, got {args.sort!r}"
                f"{did_you_mean(args.sort, COLUMNS)}"
            )
        with quiet.without_chatter(on_terminal=sys.stderr.isatty()):
            found, notes = find(args.folder)
    except ConfigError as error:
        sys.exit(f"{program}: {printable(str(error))}")
    for note in notes[:MAX_NOTES]:
        print(printable(note), file=sys.stderr)
    if len(notes) > MAX_NOTES:
        print(f"... and {len(notes) - MAX_NOTES} more notes", file=sys.stderr)
    found = sort(found, args.sort)
    _write(to_csv(found) if args.csv else to_text(found, width=_terminal_width()) + "\n")


def _write(text: str) -> None:
    """Writes to stdout, whose reader may have gone, as with `| head`."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _terminal_width() -> int | None:
    """Returns the number of columns; None if the output is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def find(root: str) -> tuple[list[tuple[str, Run]], list[str]]:
    """Finds and reads the runs below a folder.

    Args:
      root: the folder.

    Returns:
      The name of each run, relative to the folder, and the run; and notes on what cannot be read.

    Raises:
      ConfigError: the folder cannot be listed, or there are no runs in it.
    """
    directories, bound = folders.find(root, run_folder.is_run)
    notes = [f"{bound} are searched: give a folder further down"] if bound else []
    found = []
    for directory in directories:
        try:
            run = run_folder.read(directory)
        except ConfigError as error:  # it was deleted meanwhile
            notes.append(str(error))
            continue
        name = os.path.relpath(directory, root)
        name = os.path.basename(os.path.abspath(root)) if name == "." else name
        found.append((name, run))
        notes += [f"{name}: {note}" for note in run.notes]
    if not found:
        raise ConfigError(
            f"there are no runs below {root!r}: give a folder that holds the --model_dir of a run"
        )
    return found, notes


def sort(found: Sequence[tuple[str, Run]], column: str) -> list[tuple[str, Run]]:
    """Sorts runs by a column. Runs of the same value keep their order, and those without are last.

    Args:
      found: names and runs, ordered by name.
      column: a key of COLUMNS.
    """
    if column == "name":
        return list(found)
    spec = COLUMNS[column]
    valued = [pair for pair in found if spec.value(*pair) is not None]
    rest = [pair for pair in found if spec.value(*pair) is None]
    return sorted(valued, key=lambda pair: spec.value(*pair), reverse=spec.descends) + rest


def to_csv(found: Sequence[tuple[str, Run]]) -> str:
    """Returns the table as CSV: all columns, full precision, an empty cell for a missing value."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\r\n")
    writer.writerow([*COLUMNS, DIFFERS])
    for name, run in found:
        row = [spec.value(name, run) for spec in COLUMNS.values()]
        row.append(settings_table.differences(found[0][1], run))
        writer.writerow([_csv_cell(value) for value in row])
    return output.getvalue()


def _csv_cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = printable(value)
    # The apostrophe itself is marked too, so that readers can take one off again.
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "'")) else text


def to_text(found: Sequence[tuple[str, Run]], *, width: int | None) -> str:
    """Returns the table for people.

    Args:
      found: names and runs.
      width: columns of the terminal; None for no limit.
    """
    titles, columns = [], []
    for key, spec in COLUMNS.items():
        values = [spec.value(*pair) for pair in found]
        if spec.title is None or all(value is None for value in values):
            continue
        cells = ["" if value is None else printable(spec.text(value)) for value in values]
        if key == "step":
            cells = [_step(run) for _, run in found]
        titles.append(spec.title)
        columns.append(cells)
    last = [printable(_difference(found[0][1], run)) for _, run in found]
    if len(found) == 1:
        last = [""]
    rows = [list(cells) for cells in zip(*columns, strict=True)]
    return text_table.format_table(titles, rows, "differs from the first", last, width=width)


def _step(run: Run) -> str:
    if run.step is None:
        return ""
    return str(run.step) if run.total_steps is None else f"{run.step}/{run.total_steps}"


def _difference(first: Run, run: Run) -> str:
    if run is first:
        return ""
    if not (first.settings and run.settings):
        return "settings unknown"
    return settings_table.differences(first, run) or "no setting"
