"""Writes figures of Matplotlib as PNG, SVG or PDF."""

import os

import matplotlib
from matplotlib.figure import Figure

from tf_simclr.errors import ConfigError, one_line

FORMATS = (".png", ".svg", ".pdf")
DPI = 300


def check(path: str) -> None:
    """Checks that a picture can be written to a path, before anything slow.

    Raises:
      ConfigError: its folder does not exist or is not writable, or its suffix is unknown.
    """
    if os.path.splitext(path)[1].lower() not in FORMATS:
        raise ConfigError(f"output must end in {', '.join(FORMATS)}, got {path!r}")
    parent = os.path.dirname(path) or "."
    if not os.path.isdir(parent) or not os.access(parent, os.W_OK):
        raise ConfigError(
            f"output {path!r} cannot be written: {parent!r} is not a writable folder; give a file "
            "in another folder with --output"
        )
    if os.path.isdir(path):
        raise ConfigError(f"output {path!r} is a directory: give a file name")


def write(figure: Figure, path: str) -> None:
    """Writes a figure, cropped to its content. An old file is replaced only by a complete one.

    The same figure gives the same bytes: the files have no date.

    Args:
      figure: the figure.
      path: the path (`check`).

    Raises:
      ConfigError: the file cannot be written.
    """
    suffix = os.path.splitext(path)[1].lower().lstrip(".")
    unfinished = f"{path}.unfinished"
    dates = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    try:
        # Text of an SVG stays text, and its ids do not change from run to run.
        with matplotlib.rc_context({"svg.hashsalt": "tf_simclr", "svg.fonttype": "none"}):
            figure.savefig(
                unfinished,
                format=suffix,
                dpi=DPI,
                bbox_inches="tight",
                pad_inches=0.05,
                metadata=dates[suffix],
            )
        os.replace(unfinished, path)
    except OSError as error:
        raise ConfigError(
            f"output {path!r} cannot be written ({one_line(error)}): use another file name"
        ) from error
    finally:
        if os.path.exists(unfinished):
            os.remove(unfinished)
