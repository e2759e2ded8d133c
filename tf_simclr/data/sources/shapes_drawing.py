"""Draws the images of the shapes data set (described in `shapes`)."""

import math
from typing import Any

import numpy as np

CLASS_NAMES = (
    "circle",
    "ring",
    "crescent",
    "heart",
    "triangle",
    "square",
    "star",
    "plus",
    "arrow",
    "hourglass",
)
SIZE = 32  # pixels
_LUMA = np.array([0.299, 0.587, 0.114])
# Pixel centers, (2, 32, 32), x to the right and y down.
_GRID = np.stack(np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)).astype(np.float64)

_NOISE = 0.03  # largest noise that is added to a color in [0, 1]

_TILES = 8  # tiles per side; larger than any image needs
_PITCH = (11.0, 14.5)  # pixels from one shape to the next
_SHIFT = 0.06  # largest offset of a shape from the center of its tile, relative to the pitch
_TURN = 0.45  # radians to either side of upright
_SIZES = (0.85, 1.0)  # relative to the largest size that fits
_STRETCH = 0.1  # log of the ratio of width to height, to either side


def _regular_star(points: int, outer: float, inner: float) -> np.ndarray:
    angles = np.arange(2 * points) * math.pi / points - math.pi / 2
    radii = np.where(np.arange(2 * points) % 2, inner, outer)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


# Corners in the unit frame, where a shape's extent is about [-1, 1].
_POLYGONS = {
    "triangle": _regular_star(3, 1.15, 0.575),
    "square": 0.8 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float64),
    "star": _regular_star(5, 1.12, 0.46),
    "plus": 0.98
    * np.array(
        [
            (-1, -0.3),
            (-0.3, -0.3),
            (-0.3, -1),
            (0.3, -1),
            (0.3, -0.3),
            (1, -0.3),
            (1, 0.3),
            (0.3, 0.3),
            (0.3, 1),
            (-0.3, 1),
            (-0.3, 0.3),
            (-1, 0.3),
        ]
    ),
    "arrow": np.array(
        [
            (-1.05, -0.26),
            (0.08, -0.26),
            (0.08, -0.85),
            (1.05, 0),
            (0.08, 0.85),
            (0.08, 0.26),
            (-1.05, 0.26),
        ]
    ),
    "hourglass": np.array(
        [
            (-0.8, -0.95),
            (0.8, -0.95),
            (0.13, 0),
            (0.8, 0.95),
            (-0.8, 0.95),
            (-0.13, 0),
        ]
    ),
}


# Areas of the unit shapes. Sizes are scaled by them, so all shapes print the same amount of ink.
_AREAS = {
    "circle": 2.66,
    "ring": 2.14,
    "crescent": 1.50,
    "heart": 2.24,
    "triangle": 1.90,
    "square": 2.74,
    "star": 1.76,
    "plus": 2.20,
    "arrow": 1.61,
    "hourglass": 2.00,
}
_WIDEST = 0.92  # largest ratio of reach to sqrt(area), from the crescent


def _polygon_distance(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Computes the distance of points (2, n) from a polygon (m, 2): (n,), negative inside."""
    start, end = corners, np.roll(corners, -1, axis=0)
    edge = end - start  # (m, 2)
    from_start_x = points[0] - start[:, :1]  # (m, n)
    from_start_y = points[1] - start[:, 1:]
    along = (from_start_x * edge[:, :1] + from_start_y * edge[:, 1:]) / np.sum(
        edge * edge, axis=1, keepdims=True
    )
    along = np.minimum(np.maximum(along, 0.0), 1.0)
    gap_x = from_start_x - along * edge[:, :1]
    gap_y = from_start_y - along * edge[:, 1:]
    distance = np.sqrt(np.min(gap_x * gap_x + gap_y * gap_y, axis=0))
    # Even-odd rule: a ray to the right crosses the outline an odd number of times from inside.
    straddles = (from_start_y < 0) != (points[1] < end[:, 1:])
    left_of = (from_start_x * edge[:, 1:] < from_start_y * edge[:, :1]) == (edge[:, 1:] > 0)
    inside = np.count_nonzero(straddles & left_of, axis=0) % 2
    return np.where(inside, -distance, distance)


def _distance(name: str, points: np.ndarray) -> np.ndarray:
    """Computes the distance of points (2, n) from a unit shape: (n,), negative inside.

    For the heart and the crescent it is an approximation, good near the outline.
    """
    if name in _POLYGONS:
        return _polygon_distance(points, _POLYGONS[name]) - 0.03  # slightly rounded corners
    x, y = points
    if name == "circle":
        return np.sqrt(x * x + y * y) - 0.92
    if name == "ring":
        return np.abs(np.sqrt(x * x + y * y) - 0.74) - 0.23
    if name == "crescent":  # a disc less a smaller one to its right
        bite = 0.8 - np.sqrt((x - 0.62) ** 2 + y * y)
        return np.maximum(np.sqrt((x - 0.14) ** 2 + y * y) - 1, bite)
    if name == "heart":  # a square on its corner with a disc on either upper side
        half, y = 0.56, y - 0.1
        square = np.maximum(np.abs(x + y), np.abs(x - y)) / math.sqrt(2) - half
        shift = half / math.sqrt(2)
        discs = np.sqrt((np.abs(x) - shift) ** 2 + (y + shift) ** 2) - half
        return np.minimum(square, discs)
    raise ValueError(f"unknown shape {name!r}: choose one of {CLASS_NAMES}")


def _color(hue: float, saturation: float, luma: float) -> np.ndarray:
    """Returns the RGB color (3,) in [0, 1] with this hue and exactly this luma (Rec. 601)."""
    pure = np.minimum(np.maximum(np.abs((6 * hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0), 1)
    color = 1 - saturation * (1 - pure)
    luma_before = float(color @ _LUMA)
    if luma_before > luma:
        return color * (luma / luma_before)
    return 1 - (1 - color) * ((1 - luma) / (1 - luma_before))


# All images have the same colors. If colors distinguished images, contrastive learning would not
# need the shapes.
_GROUND = _color(hue=0.65, saturation=0.5, luma=0.15)
_INKS = np.stack([_color(hue, saturation=0.6, luma=0.65) for hue in (0.12, 0.5, 0.9)])


def _between(low: float, high: float, random: Any) -> Any:
    """Stretches numbers in [0, 1) to [low, high)."""
    return low + (high - low) * random


def _tiles(random: np.ndarray, pitch: float) -> tuple[Any, ...]:
    """Covers the image with rows of tiles. Every second row is shifted by half a tile.

    Args:
      random: numbers in [0, 1), (3,): for the rows' angle and for the two shifts.
      pitch: side of a tile, in pixels.

    Returns:
      Per pixel, (32, 32) each: column and row of its tile, from 0; position along and across the
      rows, in pixels from the center of the tile. Then the rows' angle in radians.
    """
    angle = 2 * math.pi * random[0]
    c, s = math.cos(angle), math.sin(angle)
    down = (c * _GRID[1] - s * _GRID[0]) / pitch + random[1]
    row = np.floor(down)
    along = (c * _GRID[0] + s * _GRID[1]) / pitch + random[2] + 0.5 * (row % 2)
    column = np.floor(along)
    x, y = (along - column - 0.5) * pitch, (down - row - 0.5) * pitch
    return (column - column.min()).astype(int), (row - row.min()).astype(int), x, y, angle


def draw(label: int, rng: np.random.Generator) -> np.ndarray:
    """Draws one image of a class.

    Args:
      label: class index in [0, 10), see CLASS_NAMES.
      rng: source of all random numbers; the same state gives the same image.

    Returns:
      uint8 (32, 32, 3), RGB in [0, 255].

    Raises:
      ValueError: if the label is not a class.
    """
    return _draw(label, rng)[0]


def _draw(label: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws one image. Also returns the share of ink in each pixel, float64 (32, 32)."""
    if not 0 <= label < len(CLASS_NAMES):
        raise ValueError(f"label must be in [0, {len(CLASS_NAMES)}), got {label}")
    name = CLASS_NAMES[label]
    # Only Generator.random is used, because no NumPy release has changed its stream.
    pitch = _between(*_PITCH, float(rng.random()))
    column, row, x, y, angle = _tiles(rng.random(3), pitch)

    # Per pixel, the random numbers of its tile: shift (2), rotation, size and stretch of its shape.
    # Shapes are upright in the image, independent of the angle of their row.
    random = rng.random((5, _TILES, _TILES))[:, row, column]
    x = x - _between(-_SHIFT, _SHIFT, random[0]) * pitch
    y = y - _between(-_SHIFT, _SHIFT, random[1]) * pitch
    turn = _between(-_TURN, _TURN, random[2]) - angle
    unit = 0.48 * pitch / (_WIDEST * math.sqrt(_AREAS[name]))  # pixels
    unit = unit * _between(*_SIZES, random[3])
    stretch = np.exp(_between(-_STRETCH, _STRETCH, random[4]))
    c, s = np.cos(turn), np.sin(turn)
    points = np.stack([(c * x + s * y) / (unit * stretch), (c * y - s * x) * stretch / unit])
    distance = unit * _distance(name, points.reshape(2, -1)).reshape(SIZE, SIZE)
    ink = np.minimum(np.maximum(0.5 - distance, 0.0), 1.0)

    # Colors alternate, so every crop has about the same share of each.
    inks = _INKS[(column + row) % len(_INKS)]
    image = _GROUND * (1 - ink[..., None]) + inks * ink[..., None]
    image = image + (rng.random((2, SIZE, SIZE, 1)).sum(axis=0) - 1) * _NOISE
    # All in float64: last-bit differences between NumPy builds then never change a byte.
    return np.floor(np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8), ink
