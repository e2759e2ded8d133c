"""Shapes: a small labelled data set that is drawn here, so that it needs no download.

Each picture of 32x32 pixels is a piece of wrapping paper, printed all over with one of ten shapes.
The shape is the class, and nearly all that two crops of one picture have in common. Contrastive
learning can find it because the paper shows whole shapes wherever it is cut.

What differs between pictures of a class does not depend on the class: where the shapes lie, at
which angle their rows run, how far apart they are, and how each of them is turned, stretched and
sized. All pictures have the same colours and, whatever the shape, the same amount of ink.

How many of the 2,000 test pictures are told, where one in ten would be by chance:

- 11% by a linear classifier of raw pixels, and 18% of the seven nearest of the training pictures by
  raw pixels are of the right class. Both compare one place with the same place elsewhere, and what
  lies at a place is chance; pictures are near whose shapes happen to lie on top of one another.
- 10% by the mean of the colours; 34% by their mean and deviation, since a longer outline has more
  half-covered pixels. That much a classifier of pixels can see without any notion of shapes.
- 25% by a linear classifier on an encoder that is not trained, which sees outlines and corners.
- 86 to 96% by a linear classifier on the encoder that the demo pretrains, from one seed to another,
  and 70 to 86% of the seven nearest are of the right class.

Each picture depends only on its split and its index.
"""

import contextlib
import io
import math
import os
import time

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

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
NUM_TRAIN = 10_000
NUM_TEST = 2_000

_SIZE = 32  # pixels
_SEEDS = {"train": 1, "test": 2}
_LUMA = np.array([0.299, 0.587, 0.114])
# Pixel centres, (2, 32, 32), x to the right and y down.
_GRID = np.stack(np.meshgrid(np.arange(_SIZE) + 0.5, np.arange(_SIZE) + 0.5)).astype(np.float64)

_NOISE = 0.03  # the largest that is added to a colour in [0, 1]

_TILES = 8  # a side; more than any picture shows of the rows and columns of shapes
_PITCH = (11.0, 14.5)  # pixels from one shape to the next
_SHIFT = 0.06  # of the pitch, by which a shape lies beside the middle of its tile
_TURN = 0.45  # radians to either side of upright
_SIZES = (0.85, 1.0)  # of the largest that fits
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


# Areas of the unit shapes, by which their sizes are chosen: all print the same amount of ink.
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
_WIDEST = 0.92  # the largest ratio of a shape's reach to the root of its area: the crescent's


def _polygon_distance(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Signed distance from points (2, n) to a closed polygon (m, 2): (n,), negative inside."""
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
    """Signed distance from points (2, n) to a unit shape: (n,); near the outline of the heart and
    the crescent close to it."""
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


def _colour(hue: float, saturation: float, luma: float) -> np.ndarray:
    """The RGB colour (3,) in [0, 1] of that hue and of exactly that luma (Rec. 601)."""
    pure = np.minimum(np.maximum(np.abs((6 * hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0), 1)
    colour = 1 - saturation * (1 - pure)
    own = float(colour @ _LUMA)
    if own > luma:
        return colour * (luma / own)
    return 1 - (1 - colour) * ((1 - luma) / (1 - own))


# The same colours in every picture: colours that told pictures apart would spare contrastive
# learning the look at the shape.
_GROUND = _colour(hue=0.65, saturation=0.5, luma=0.15)
_INKS = np.stack([_colour(hue, saturation=0.6, luma=0.65) for hue in (0.12, 0.5, 0.9)])


def _between(low: float, high: float, random):
    """Numbers in [0, 1) stretched to [low, high)."""
    return low + (high - low) * random


def _tiles(random: np.ndarray, pitch: float) -> tuple[np.ndarray, ...]:
    """Lays rows of tiles over the picture, each row half a tile beside the one above.

    Args:
      random: numbers in [0, 1) of the rows' angle and of the two shifts.
      pitch: side of a tile, in pixels.

    Returns:
      Of each pixel, all (32, 32): its tile's column and row, from 0; its place in pixels along and
      across the rows, from the middle of the tile. Then the rows' angle in radians.
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
    """Draws one picture of a class.

    Args:
      label: class index in [0, 10), see CLASS_NAMES.
      rng: where every random choice comes from; the same state gives the same picture.

    Returns:
      uint8 (32, 32, 3), RGB in [0, 255].

    Raises:
      ValueError: if the label is not a class.
    """
    return _draw(label, rng)[0]


def _draw(label: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws one picture, and tells which part of each pixel is ink: float64 (32, 32) in [0, 1]."""
    if not 0 <= label < len(CLASS_NAMES):
        raise ValueError(f"label must be in [0, {len(CLASS_NAMES)}), got {label}")
    name = CLASS_NAMES[label]
    # Generator.random alone, whose stream no NumPy release has changed.
    pitch = _between(*_PITCH, float(rng.random()))
    column, row, x, y, angle = _tiles(rng.random(3), pitch)

    # Of each tile, and so of each pixel in it: how its shape is shifted, turned, sized, stretched.
    # A shape stands upright in the picture, however its row runs.
    random = rng.random((5, _TILES, _TILES))[:, row, column]
    x = x - _between(-_SHIFT, _SHIFT, random[0]) * pitch
    y = y - _between(-_SHIFT, _SHIFT, random[1]) * pitch
    turn = _between(-_TURN, _TURN, random[2]) - angle
    unit = 0.48 * pitch / (_WIDEST * math.sqrt(_AREAS[name]))  # pixels
    unit = unit * _between(*_SIZES, random[3])
    stretch = np.exp(_between(-_STRETCH, _STRETCH, random[4]))
    c, s = np.cos(turn), np.sin(turn)
    points = np.stack([(c * x + s * y) / (unit * stretch), (c * y - s * x) * stretch / unit])
    distance = unit * _distance(name, points.reshape(2, -1)).reshape(_SIZE, _SIZE)
    ink = np.minimum(np.maximum(0.5 - distance, 0.0), 1.0)

    # Colours take turns, so that every crop has about the same share of each.
    inks = _INKS[(column + row) % len(_INKS)]
    image = _GROUND * (1 - ink[..., None]) + inks * ink[..., None]
    image = image + (rng.random((2, _SIZE, _SIZE, 1)).sum(axis=0) - 1) * _NOISE
    # In float64 throughout: last-bit differences between NumPy builds then never reach a byte.
    return np.floor(np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8), ink


def example(split: str, index: int) -> tuple[np.ndarray, int]:
    """The index-th example of a split; classes take turns, so each split is balanced.

    Args:
      split: "train" or "test".
      index: at least 0; the builder takes the first NUM_TRAIN or NUM_TEST.

    Returns:
      (image uint8 (32, 32, 3), label int in [0, 10)).
    """
    if split not in _SEEDS:
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    label = index % len(CLASS_NAMES)
    return draw(label, np.random.Generator(np.random.PCG64([_SEEDS[split], index]))), label


class _LocalInfo(tfds.core.DatasetInfo):
    """A DatasetInfo that does not look for itself in Google's bucket.

    TFDS asks gs://tfds-data for every unprepared builder, and without a network the cloud client
    retries for a long time. This data set has never been there.
    """

    def initialize_from_bucket(self) -> None:
        """Leaves the info as the code states it."""


class Shapes(tfds.core.GeneratorBasedBuilder):
    """The TFDS builder "shapes": image uint8 (32, 32, 3) as PNG, label in [0, 10).

    Splits: train (10,000) and test (2,000), each balanced over CLASS_NAMES. Prepare it with
    `prepare`, or by download_and_prepare with try_download_gcs=False.
    """

    name = "shapes"
    VERSION = tfds.core.Version("2.0.0")
    # Nothing is downloaded. Said here, TFDS does not search its package for checksums, which on
    # Python 3.12 needs importlib_resources, a package it does not bring.
    url_infos = None
    drawn = staticmethod(lambda: None)  # called after each picture

    def _info(self) -> tfds.core.DatasetInfo:
        return _LocalInfo(
            builder=self,
            description="Wrapping paper printed all over with one of ten shapes.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(_SIZE, _SIZE, 3), dtype=np.uint8, encoding_format="png"
                    ),
                    "label": tfds.features.ClassLabel(names=CLASS_NAMES),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing to download
        return {
            "train": self._generate_examples("train", NUM_TRAIN),
            "test": self._generate_examples("test", NUM_TEST),
        }

    def _generate_examples(self, split: str, count: int):
        for index in range(count):
            image, label = example(split, index)
            self.drawn()
            yield index, {"image": image, "label": label}


def prepare(data_dir: str | os.PathLike | None = None) -> Shapes:
    """Returns the builder, after drawing and writing the data set if it is not there yet.

    Needs no network. TFDS writes into a temporary folder and renames it at the end, so that a
    process that dies midway leaves nothing that a later one would read.

    Args:
      data_dir: the TFDS data folder; None is TFDS's own default (TFDS_DATA_DIR, or
        ~/tensorflow_datasets).

    Returns:
      A prepared builder, ready for as_dataset.
    """
    builder = Shapes(data_dir=data_dir)
    if builder.is_prepared():
        return builder
    count = NUM_TRAIN + NUM_TEST
    print(f"Drawing the shapes data set ({count:,} images) ...", flush=True)
    start = time.monotonic()
    bar = tqdm(total=count, desc="drawing", unit="image", leave=False, disable=None)
    builder.drawn = bar.update
    try:
        # TFDS's progress bars and banners say "download", which is not what happens here.
        with (
            bar,
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False)
            )
    except OSError:
        # Another process may have finished the same data set first; its files are the same.
        builder = Shapes(data_dir=data_dir)
        if not builder.is_prepared():
            raise
    print(f"Drawn in {time.monotonic() - start:.0f} s.", flush=True)
    return builder
