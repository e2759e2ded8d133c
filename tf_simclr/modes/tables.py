"""Writes tables of predictions batch by batch: CSV, Parquet, or .npy with a CSV of file names.

A file gets its name only when it is complete.
"""

import contextlib
import csv
import os
import shutil
from collections.abc import Iterator, Sequence
from typing import IO

import numpy as np

from tf_simclr.errors import ConfigError, one_line
from tf_simclr.files import check_output

EMBEDDINGS = ".npy"
_UNFINISHED = ".unfinished"
_FIRST_COLUMNS = ("file", "prediction", "probability")


def check(path: str) -> None:
    """Checks that a table can be written to a path.

    Raises:
      ConfigError: the table cannot be written.
    """
    check_output(path)
    try:
        os.stat(f"{path}.files.csv{_UNFINISHED}")
    except FileNotFoundError:
        pass
    except OSError as error:  # the name is too long
        raise ConfigError(
            f"output {path!r} cannot be written ({one_line(error)}): use another file name"
        ) from error
    if path.endswith(".parquet"):
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                f"output {path!r} needs pyarrow ({one_line(error)}): pip install pyarrow==19.0.1, "
                "or write a .csv"
            ) from error


class Table(contextlib.ExitStack):
    """A table that is open for writing. The end of a `with` statement closes it."""

    @staticmethod
    def paths(path: str) -> list[str]:
        """Lists the files of the table at a path."""
        return [path]

    def write(self, files: Sequence[str], values: np.ndarray) -> None:
        """Appends n rows.

        Args:
          files: n paths of images.
          values: (n, width).
        """
        raise NotImplementedError


@contextlib.contextmanager
def open_table(path: str, class_names: Sequence[str] | None, width: int) -> Iterator[Table]:
    """Opens a table for writing. An old one is replaced only if no error occurs.

    Args:
      path: path of the table, already accepted by `check`. The suffix chooses the format.
      class_names: for class probabilities, the names of the classes; None for embeddings. The
        columns of class probabilities are file, prediction, probability, and one for each class
        under its name (class_NAME if another column has that name). Embeddings are float32
        (n, width) in the .npy file, and PATH.files.csv holds the file of each row.
      width: number of values in a row.
    """
    unfinished = path + _UNFINISHED
    formats = {".csv": _Csv, ".parquet": _Parquet, EMBEDDINGS: _Embeddings}
    table_format = formats[os.path.splitext(path)[1]]
    unfinished_files = table_format.paths(unfinished)
    try:
        with table_format(unfinished, class_names or (), width) as table:
            yield table
        for name in filter(os.path.exists, unfinished_files):
            os.replace(name, name.removesuffix(_UNFINISHED))
    finally:
        for name in filter(os.path.exists, unfinished_files):
            os.remove(name)


def _class_columns(class_names: Sequence[str]) -> list[str]:
    """Names the columns of the classes so that no two columns of the table have the same name."""
    used, columns = {*_FIRST_COLUMNS, *class_names}, []
    for name in class_names:
        if name in _FIRST_COLUMNS or name in columns:
            while name in used:
                name = f"class_{name}"
        used.add(name)
        columns.append(name)
    return columns


def _utf_8(name: str) -> str:
    """Converts a file name to UTF-8, as Parquet strings must be. Other bytes become \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _open_text(path: str) -> IO[str]:
    """Opens a text file that can store any bytes of a file name."""
    return open(path, "w", newline="", encoding="utf-8", errors="surrogateescape")


class _Csv(Table):
    def __init__(self, path: str, class_names: Sequence[str], width: int):
        super().__init__()
        self.class_names = class_names
        self.rows = csv.writer(self.enter_context(_open_text(path)), lineterminator="\n")
        self.rows.writerow([*_FIRST_COLUMNS, *_class_columns(class_names)])

    def write(self, files: Sequence[str], values: np.ndarray) -> None:
        for file, row in zip(files, values, strict=True):
            best = int(row.argmax())
            numbers = (f"{p:.6g}" for p in (row[best], *row))
            self.rows.writerow([file, self.class_names[best], *numbers])


class _Parquet(Table):
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

    def write(self, files: Sequence[str], values: np.ndarray) -> None:
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


class _Embeddings(Table):
    """Writes the rows to a separate file first: an .npy file begins with the number of rows."""

    def __init__(self, path: str, class_names: Sequence[str], width: int):
        super().__init__()
        _, rows, files = self.paths(path)
        self.path, self.width, self.count = path, width, 0
        self.files = csv.writer(self.enter_context(_open_text(files)), lineterminator="\n")
        self.files.writerow(["file"])
        self.rows = self.enter_context(open(rows, "w+b"))

    @staticmethod
    def paths(path: str) -> list[str]:
        files = f"{path.removesuffix(_UNFINISHED)}.files.csv{_UNFINISHED}"
        return [path, f"{path}.rows", files]

    def write(self, files: Sequence[str], values: np.ndarray) -> None:
        self.files.writerows([file] for file in files)
        self.rows.write(np.ascontiguousarray(values, "<f4").tobytes())
        self.count += len(values)

    def __exit__(self, error_type, *error) -> bool | None:
        if error_type is None:
            header = {"descr": "<f4", "fortran_order": False, "shape": (self.count, self.width)}
            with open(self.path, "wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                self.rows.seek(0)
                shutil.copyfileobj(self.rows, file)
            self.rows.close()
            os.remove(f"{self.path}.rows")
        return super().__exit__(error_type, *error)
