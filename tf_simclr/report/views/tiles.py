"""Places images and texts on a figure, in inches."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, PALE = "#222222", "#767676"
DPI = 160
_LARGEST_PIXELATED = 64  # pixels; images up to this side are shown with sharp pixels


class Canvas:
    """A white figure on which everything is placed in inches from the upper left corner.

    Attributes:
      figure: the figure.
      width: its width in inches.
      height: its height in inches.
    """

    def __init__(self, width: float, height: float):
        """Makes an empty figure.

        Args:
          width: width in inches.
          height: height in inches.
        """
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")

    def image(self, pixels: np.ndarray, x: float, y: float, side: float) -> Axes:
        """Shows an image in a square, as large as fits, with its proportions.

        Args:
          pixels: uint8, or float in [0, 1], (h, w, 3).
          x: left side of the square in inches.
          y: upper side of the square in inches.
          side: side of the square in inches.
        """
        box = (
            x / self.width,
            1 - (y + side) / self.height,
            side / self.width,
            side / self.height,
        )
        axes = self.figure.add_axes(box)
        longest, shown = max(pixels.shape[:2]), side * DPI
        if longest <= _LARGEST_PIXELATED:
            interpolation = "nearest"
        else:
            interpolation = "bicubic" if longest < shown else "antialiased"
        # Matplotlib would keep every pixel of a large image until it draws.
        axes.imshow(
            _reduced(pixels, round(4 * side * DPI)),
            interpolation=interpolation,
            extent=(0, pixels.shape[1], pixels.shape[0], 0),
        )
        axes.set_axis_off()
        return axes

    def text(
        self,
        text: str,
        x: float,
        y: float,
        *,
        size: float = 8,
        color: str = INK,
        align: str = "left",
        weight: str = "normal",
    ) -> None:
        """Writes text whose upper edge is at y; the text is printed as it is.

        Args:
          text: one or several lines.
          x: inches from the left to the side or middle that `align` names.
          y: inches from the top.
          size: size of the letters in points.
          color: color of the letters.
          align: "left", "center" or "right".
          weight: "normal" or "bold".
        """
        self.figure.text(
            x / self.width,
            1 - y / self.height,
            text,
            fontsize=size,
            color=color,
            ha=align,
            va="top",
            weight=weight,
            linespacing=1.15,
            parse_math=False,  # a class may be called $x$
        )


def _reduced(pixels: np.ndarray, limit: int) -> np.ndarray:
    """Leaves out rows and columns of an image that is much larger than it is drawn."""
    step = max(1, max(pixels.shape[:2]) // limit)
    return pixels[::step, ::step]


def wrapped(text: str, width: float, size: float) -> list[str]:
    """Breaks a text into lines that are at most `width` inches long, at `size` points."""
    return textwrap.wrap(text, max(8, int(width * 72 / (0.56 * size))), break_long_words=True)


def printable(text: str, limit: int) -> str:
    """Makes a name from data printable, and cuts out its middle if it exceeds `limit` letters."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    if len(text) <= limit:
        return text
    head = (limit - 1) // 2
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"
