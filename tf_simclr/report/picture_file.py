"""Writes figures of Matplotlib as PNG, SVG or PDF."""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure

from tf_simclr import files
from tf_simclr.errors import ConfigError, one_line

FORMATS = (".png", ".svg", ".pdf")
DPI = 300
# Fonts for scripts that Matplotlib's own font lacks. Those that are not installed are left out.
_FALLBACKS = (
    "Noto Sans",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Hiragino Sans",
    "PingFang SC",
    "Yu Gothic",
    "Microsoft YaHei",
    "Malgun Gothic",
    "WenQuanYi Zen Hei",
    "Arial Unicode MS",
)


def suffix_of(path: str) -> str:
    """Returns the lower-case suffix of a path, such as ".png"."""
    return os.path.splitext(path)[1].lower()


def encode(figure: Figure, suffix: str, *, dpi: int = DPI, is_cropped: bool = True) -> bytes:
    """Returns a figure as the content of a file. The same figure gives the same bytes.

    Args:
      figure: the figure.
      suffix: one of FORMATS.
      dpi: pixels in an inch, of a PNG.
      is_cropped: whether to crop the figure to its content.
    """
    dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    crop: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.05} if is_cropped else {}
    content = io.BytesIO()
    # Text of an SVG stays text, and its ids do not change from run to run.
    svg = {"svg.hashsalt": "tf_simclr", "svg.fonttype": "none"}
    with _fonts(), matplotlib.rc_context(svg):
        figure.savefig(content, format=suffix[1:], dpi=dpi, metadata=dates.get(suffix), **crop)
    return content.getvalue()


def write(figure: Figure, path: str) -> None:
    """Writes a figure, cropped to its content. An old file is replaced only by a complete one.

    Args:
      figure: the figure.
      path: the path, which ends in one of FORMATS.

    Raises:
      ConfigError: the file cannot be written.
    """
    write_content(encode(figure, suffix_of(path)), path)


def write_content(content: bytes, path: str) -> None:
    """Writes what `encode` returns; see `write`."""
    try:
        files.write_bytes(path, content)
    except Exception as error:  # OSError, or an error of TensorFlow
        raise ConfigError(
            f"output {path!r} cannot be written ({one_line(error)}): use another file name"
        ) from error


@contextlib.contextmanager
def _fonts() -> Iterator[None]:
    """Makes installed fonts stand in for letters that Matplotlib's font lacks.

    A letter that no font has is drawn as an empty box.
    """
    installed = {font.name for font in font_manager.fontManager.ttflist}
    families = ["DejaVu Sans", *(name for name in _FALLBACKS if name in installed)]
    with matplotlib.rc_context({"font.family": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Glyph.*missing")
        warnings.filterwarnings("ignore", message=".*Matplotlib currently does not support")
        yield
