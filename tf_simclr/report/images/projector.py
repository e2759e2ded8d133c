"""Writes embeddings for TensorBoard's projector."""

import math
import os
from collections.abc import Sequence

import numpy as np

from tf_simclr import files
from tf_simclr.checkpoints import new_directory
from tf_simclr.report.images import thumbnails

CONFIG, TENSORS, METADATA, SPRITE = (
    "projector_config.pbtxt",
    "tensors.tsv",
    "metadata.tsv",
    "sprite.png",
)
_FILES = {CONFIG, TENSORS, METADATA, SPRITE}
MAX_SPRITE_SIDE = 8192  # pixels; larger textures are beyond many graphics cards


def check(directory: str) -> None:
    """Checks that the files may be written, before anything slow.

    Raises:
      ConfigError: the directory has other files, or cannot be written.
    """
    if not (os.path.isdir(directory) and set(os.listdir(directory)) <= _FILES):
        new_directory.check(directory)
    files.check_folder_of(os.path.abspath(directory))


def write(
    directory: str,
    embeddings: np.ndarray,
    columns: dict[str, Sequence[str]],
    images: np.ndarray,
) -> None:
    """Writes tensors.tsv, metadata.tsv, sprite.png and projector_config.pbtxt.

    Args:
      directory: the directory (`check`). Its earlier files are replaced.
      embeddings: float32 (n, d).
      columns: {title: n texts}, at least two columns. Tabs and line breaks in them are escaped.
      images: uint8 (n, h, h, 3). They are made smaller, so that the sprite is within 8,192 pixels.

    Raises:
      ConfigError: a file cannot be written. Earlier files are kept then.
    """
    assert len(columns) > 1, "the projector takes the first row of a single column as data"
    num_columns = math.ceil(math.sqrt(len(embeddings)))
    side = min(images.shape[1], MAX_SPRITE_SIDE // num_columns)
    rows = ["\t".join(map(_cell, columns))]
    rows += ["\t".join(map(_cell, row)) for row in zip(*columns.values(), strict=True)]
    with new_directory.written(directory) as unfinished:
        _write_text(unfinished, METADATA, "\n".join(rows) + "\n")
        lines = ("\t".join(f"{value:.6g}" for value in row) for row in embeddings.tolist())
        _write_text(unfinished, TENSORS, "\n".join(lines) + "\n")
        thumbnails.sheet(images, side).save(os.path.join(unfinished, SPRITE), "PNG")
        _write_text(unfinished, CONFIG, _config(embeddings.shape, side))


def _config(shape: tuple[int, ...], side: int) -> str:
    return f"""\
embeddings {{
  tensor_name: "features"
  tensor_path: "{TENSORS}"
  tensor_shape: {shape[0]}
  tensor_shape: {shape[1]}
  metadata_path: "{METADATA}"
  sprite {{
    image_path: "{SPRITE}"
    single_image_dim: {side}
    single_image_dim: {side}
  }}
}}
"""


def _cell(text: str) -> str:
    r"""Escapes characters that would end a cell or a row: a tab becomes \t."""
    text = text.replace("\\", "\\\\").replace("\t", "\\t")
    # str.splitlines also ends lines at characters such as U+2028.
    return (
        "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text) or " "
    )


def _write_text(directory: str, name: str, content: str) -> None:
    with open(os.path.join(directory, name), "w", encoding="utf-8", newline="\n") as file:
        file.write(content)
