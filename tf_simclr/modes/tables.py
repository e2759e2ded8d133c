"""Tables of predictions, written row by row: CSV, Parquet, or embeddings as .npy with their files.

A file appears under its name only when it is complete.
"""

import contextlib
import csv
import os
import shutil
from collections.abc import Iterator, Sequence

import numpy as np

from tf_simclr.errors import ConfigError, one_line

EMBEDDINGS = ".npy"
_UNFINISHED = ".unfinished"
_FIRST_COLUMNS = ("file", "prediction", "probability")


def check(path: str):
    """Raises ConfigError where no table can be written to a path."""
    parent = os.path.dirname(path) or "."
    if not os.path.isdir(parent) or not os.access(parent, os.W_OK):
        raise ConfigError(
            f"output {path!r} cannot be written: {parent!r} is no folder that can be written to"
        )
    if os.path.isdir(path):
        raise ConfigError(f"output {path!r} is a directory: name a file")
    try:
        os.stat(f"{path}.files.csv{_UNFINISHED}")
    except FileNotFoundError:
        pass
    except OSError as error:  # the name is too long
        raise ConfigError(
            f"output {path!r} cannot be written ({one_line(error)}): name another"
        ) from error
    if path.endswith(".parquet"):
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                f"output {path!r} needs pyarrow ({one_line(error)}): pip install pyarrow==19.0.1, "
                "or write a .csv"
            ) from error


@contextlib.contextmanager
def open_table(path: str, class_names: Sequence[str] | None, width: int) -> Iterator:
    """Something to write(files, values (n, width)) to, any number of times.

    Args:
      path: as `check` wants it.
      class_names: for class probabilities: the columns are file, prediction, probability, and the
        probability of each class under its name (class_NAME where that is the name of another
        column). None for embeddings: float32 (n, width) in the .npy file, and in PATH.files.csv
        the file of each row.
      width: columns of the values.
    """
    unfinished = path + _UNFINISHED
    kind = {".csv": _Csv, ".parquet": _Parquet, EMBEDDINGS: _Embeddings}[os.path.splitext(path)[1]]
    try:
        with kind(unfinished, class_names, width) as table:
            yield table
        for name in filter(os.path.exists, kind.written(unfinished)):
            os.replace(name, name.removesuffix(_UNFINISHED))
    finally:
        for name in filter(os.path.exists, kind.written(unfinished)):
            os.remove(name)


def _class_columns(class_names: Sequence[str]) -> list[str]:
    """Names of the columns that hold the classes' probabilities: no two columns have the same."""
    taken, columns = {*_FIRST_COLUMNS, *class_names}, []
    for name in class_names:
        if name in _FIRST_COLUMNS or name in columns:
            while name in taken:
                name = f"class_{name}"
        taken.add(name)
        columns.append(name)
    return columns


def _utf_8(name: str) -> str:
    """A file's name for Parquet, whose strings are UTF-8: other bytes in it become \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _text(path: str):
    """A text file that takes whatever bytes a file's name is made of."""
    return open(path, "w", newline="", encoding="utf-8", errors="surrogateescape")


class _Csv(contextlib.ExitStack):
    def __init__(self, path: str, class_names: Sequence[str], width: int):
        super().__init__()
        self.class_names = class_names
        self.rows = csv.writer(self.enter_context(_text(path)), lineterminator="\n")
        self.rows.writerow([*_FIRST_COLUMNS, *_class_columns(class_names)])

    @staticmethod
    def written(path: str) -> list[str]:
        return [path]

    def write(self, files: Sequence[str], values: np.ndarray):
        for file, row in zip(files, values, strict=True):
            best = int(row.argmax())
            numbers = (f"{p:.6g}" for p in (row[best], *row))
            self.rows.writerow([file, self.class_names[best], *numbers])


class _Parquet(contextlib.ExitStack):
    def __init__(self, path: str, class_names: Sequence[str], width: int):
        import pyarrow
        import pyarrow.parquet

        super().__init__()
        self.pyarrow, self.class_names = pyarrow, [_utf_8(name) for name in class_names]
        names = [*_FIRST_COLUMNS, *_class_columns(self.class_names)]
        types = [pyarrow.string()] * 2 + [pyarrow.float32()] * (1 + len(class_names))
        fields = list(zip(names, types, strict=True))
        self.schema = pyarrow.schema(fields)
        self.file = self.enter_context(pyarrow.parquet.ParquetWriter(path, self.schema))

    written = staticmethod(_Csv.written)

    def write(self, files: Sequence[str], values: np.ndarray):
        if not len(values):
            return
        best = values.argmax(axis=1)
        columns = [
            [_utf_8(file) for file in files],
            [self.class_names[i] for i in best],
            values[np.arange(len(values)), best],
            *values.T,
        ]
        self.file.write_table(self.pyarrow.table(columns, schema=self.schema))


class _Embeddings(contextlib.ExitStack):
    """Rows first: the header of an .npy file holds their number."""

    def __init__(self, path: str, class_names: None, width: int):
        super().__init__()
        rows, files = self.written(path)[1:]
        self.path, self.width, self.count = path, width, 0
        self.files = csv.writer(self.enter_context(_text(files)), lineterminator="\n")
        self.files.writerow(["file"])
        self.rows = self.enter_context(open(rows, "w+b"))

    @staticmethod
    def written(path: str) -> list[str]:
        names = f"{path.removesuffix(_UNFINISHED)}.files.csv{_UNFINISHED}"
        return [path, f"{path}.rows", names]

    def write(self, files: Sequence[str], values: np.ndarray):
        self.files.writerows([file] for file in files)
        self.rows.write(np.ascontiguousarray(values, "<f4").tobytes())
        self.count += len(values)

    def __exit__(self, kind, *_):
        if kind is None:
            header = {"descr": "<f4", "fortran_order": False, "shape": (self.count, self.width)}
            with open(self.path, "wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                self.rows.seek(0)
                shutil.copyfileobj(self.rows, file)
            self.rows.close()
            os.remove(f"{self.path}.rows")
        return super().__exit__(kind, *_)
