"""Reads images from a Parquet file: a column of bytes, or of structs as Hugging Face writes."""

from collections.abc import Iterator
from typing import Any

from tf_simclr.errors import ConfigError, one_line

NO_IMAGE = "without bytes in the column of --image_key"
_ROWS = 16  # read at a time
_BUFFER = 2**20  # bytes
_BYTES = "bytes"  # the field of a Hugging Face image that has the encoded image


def read(
    path: str, image_key: str, name_key: str | None, max_content: int
) -> Iterator[tuple[str | None, bytes | None, str | None]]:
    """Yields (name, content, complaint) of each row. A name of None stands for no name.

    Args:
      path: the file, on this machine.
      image_key: the column of the encoded image, or STRUCT.FIELD.
      name_key: that of the name, text, bytes or an integer; None for no names.
      max_content: the largest image to read, in bytes.

    Raises:
      ConfigError: pyarrow is missing.
      OSError or another error of pyarrow: the file is damaged.
    """
    parquet = require_parquet()
    keys = [image_key] + ([name_key] if name_key else [])
    roots = list(dict.fromkeys(key.partition(".")[0] for key in keys))
    # Without a buffer pyarrow reads a whole column of a row group, which may be all of the file.
    with parquet.ParquetFile(path, buffer_size=_BUFFER) as file:
        known = [root for root in roots if root in file.schema_arrow.names]
        for batch in file.iter_batches(_ROWS, columns=known, use_threads=False):
            for row in batch.to_pylist():
                content = _value(row, image_key)
                content = content.get(_BYTES) if isinstance(content, dict) else content
                name = _text(_value(row, name_key)) if name_key else None
                if not isinstance(content, bytes) or len(content) > max_content:
                    yield name, None, NO_IMAGE
                else:
                    yield name, content, None


def column_names(path: str) -> list[str]:
    """Lists the columns of a file, which is on this machine."""
    with require_parquet().ParquetFile(path) as file:
        return list(file.schema_arrow.names)


def require_parquet() -> Any:
    """Imports pyarrow.parquet.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(
            f'Parquet needs pyarrow ({one_line(error)}): pip install "tf_simclr[beam]"'
        ) from error
    return pyarrow.parquet


def _value(row: dict[str, Any], key: str) -> Any:
    """Returns row["a"]["b"] for the key "a.b"; None if it is missing."""
    if key in row:
        return row[key]
    root, _, field = key.partition(".")
    value = row.get(root)
    return value.get(field) if isinstance(value, dict) else None


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value) if isinstance(value, str | int) else None
