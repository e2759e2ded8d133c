"""Shapes: a small labelled data set that is drawn here, so that it needs no download.

Ten classes of shape on 32x32 pictures. Colour, texture, position, size, rotation and background
are drawn independently of the class, so that a linear classifier on raw pixels does badly and a
network that finds the outline does well. Each picture depends only on its split and its index.
"""

import contextlib
import io
import math
import os
import time

import numpy as np
import tensorflow_datasets as tfds

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
# Hues of background and shape, in turns of the colour wheel. Few on purpose: colours that told
# pictures apart would spare contrastive learning the look at the shape.
_ON_LIGHT = ((0.11, 0.60), (0.04, 0.50), (0.14, 0.93), (0.55, 0.99), (0.42, 0.76), (0.92, 0.40))
_ON_DARK = ((0.62, 0.12), (0.52, 0.02), (0.06, 0.54), (0.76, 0.44), (0.40, 0.93), (0.66, 0.07))
_SEEDS = {"train": 1, "test": 2}
_LUMA = np.array([0.299, 0.587, 0.114])
# Pixel centres, (2, 32, 32), x to the right and y down.
_GRID = np.stack(np.meshgrid(np.arange(_SIZE) + 0.5, np.arange(_SIZE) + 0.5)).astype(np.float64)


def _regular_star(points: int, outer: float, inner: float) -> np.ndarray:
    angles = np.arange(2 * points) * math.pi / points - math.pi / 2
    radii = np.where(np.arange(2 * points) % 2, inner, outer)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _crescent() -> np.ndarray:
    # A unit circle about (0.14, 0) less the circle of radius 0.8 about (0.62, 0): 40 corners.
    tip = 0.615  # where the two circles meet, to the right of the first one's centre
    horn_y = math.sqrt(1 - tip * tip)
    start, bite_start = math.atan2(horn_y, tip), math.atan2(horn_y, tip - 0.48)
    outer = np.linspace(start, 2 * math.pi - start, 24)
    bite = np.linspace(2 * math.pi - bite_start, bite_start, 18)[1:-1]
    rim = np.stack([0.14 + np.cos(outer), np.sin(outer)], axis=1)
    return np.concatenate([rim, np.stack([0.62 + 0.8 * np.cos(bite), 0.8 * np.sin(bite)], axis=1)])


# Corners in the unit frame, where a shape's extent is about [-1, 1].
_POLYGONS = {
    "crescent": _crescent(),
    "triangle": _regular_star(3, 1.15, 0.575),
    "square": 0.8 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float64),
    "star": _regular_star(5, 1.12, 0.46),
    "plus": 0.98 * np.array([
        (-1, -0.3), (-0.3, -0.3), (-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3),
        (1, 0.3), (0.3, 0.3), (0.3, 1), (-0.3, 1), (-0.3, 0.3), (-1, 0.3),
    ]),
    "arrow": np.array([
        (-1.05, -0.26), (0.08, -0.26), (0.08, -0.85), (1.05, 0), (0.08, 0.85), (0.08, 0.26),
        (-1.05, 0.26),
    ]),
    "hourglass": np.array([
        (-0.8, -0.95), (0.8, -0.95), (0.13, 0), (0.8, 0.95), (-0.8, 0.95), (-0.13, 0),
    ]),
}  # fmt: skip


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
    """Signed distance (close to it, for the heart) from points (2, n) to a unit shape: (n,)."""
    if name in _POLYGONS:
        return _polygon_distance(points, _POLYGONS[name]) - 0.03  # slightly rounded corners
    x, y = points
    if name == "circle":
        return np.sqrt(x * x + y * y) - 0.92
    if name == "ring":
        return np.abs(np.sqrt(x * x + y * y) - 0.74) - 0.23
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


class _Dice:
    """Uniform numbers: Generator.random alone, whose stream no NumPy release has changed."""

    def __init__(self, rng: np.random.Generator):
        self._rng = rng

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * float(self._rng.random())

    def choice(self, weights: dict[str, float]) -> str:
        left = float(self._rng.random()) * sum(weights.values())
        for name, weight in weights.items():  # noqa: B007 - the loop's last name is the choice
            left -= weight
            if left < 0:
                break
        return name


def _mix(low: np.ndarray, high: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Blends images or colours (..., 3) by amount (32, 32): (32, 32, 3)."""
    return low + (high - low) * amount[..., None]


def _ramp(dice: _Dice) -> np.ndarray:
    """A linear gradient over the picture in [0, 1] of random direction, (32, 32)."""
    angle = dice.between(0, 2 * math.pi)
    c, s = math.cos(angle), math.sin(angle)
    reach = _SIZE * (abs(c) + abs(s))
    return 0.5 + ((_GRID[0] - _SIZE / 2) * c + (_GRID[1] - _SIZE / 2) * s) / reach


def _background(dice: _Dice, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """A calm background (32, 32, 3) between two near colours.

    It carries little information on purpose: contrastive learning would otherwise match the two
    views of a picture by the background and never look at the shape.
    """
    kind = dice.choice({"plain": 0.55, "gradient": 0.35, "blob": 0.1})
    if kind == "plain":
        amount = np.zeros((_SIZE, _SIZE))
    elif kind == "gradient":
        amount = _ramp(dice)
    else:
        x, y = dice.between(0, _SIZE), dice.between(0, _SIZE)
        amount = np.exp(-((_GRID[0] - x) ** 2 + (_GRID[1] - y) ** 2) / (2 * 9.0**2))
    return _mix(low, high, amount)


def _texture(dice: _Dice, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The shape's filling (32, 32, 3) between two colours that both stand off the background."""
    kind = dice.choice(
        {"plain": 0.62, "gradient": 0.25, "stripes": 0.07, "checks": 0.03, "dots": 0.03}
    )
    if kind == "plain":
        amount = np.zeros((_SIZE, _SIZE))
    elif kind == "gradient":
        amount = _ramp(dice)
    else:
        period, angle = dice.between(4.5, 7), dice.between(0, 2 * math.pi)
        c, s = math.cos(angle), math.sin(angle)
        across = np.cos(2 * math.pi * (_GRID[0] * c + _GRID[1] * s) / period)
        down = np.cos(2 * math.pi * (_GRID[1] * c - _GRID[0] * s) / period)
        fields = {"stripes": across, "checks": across * down, "dots": (across + down - 0.5) / 1.5}
        amount = 0.5 + np.clip(1.8 * fields[kind], -0.5, 0.5)
    return _mix(low, high, amount)


def _coverage(distance: np.ndarray, softness: float = 1.0) -> np.ndarray:
    """How much of each pixel lies inside: 1 to 0 over softness pixels around the outline."""
    return np.minimum(np.maximum(0.5 - distance / softness, 0.0), 1.0)


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
    """As draw, with the shape's coverage in [0, 1], float64 (32, 32)."""
    if not 0 <= label < len(CLASS_NAMES):
        raise ValueError(f"label must be in [0, {len(CLASS_NAMES)}), got {label}")
    dice = _Dice(rng)

    # Where the shape lies: unit frame -> stretch, shear -> rotate -> scale -> move.
    span = dice.between(0.68, 0.88)
    scale = _SIZE * span / 2  # pixels a unit
    slack = 0.5 * _SIZE * (1 - span)
    centre_x, centre_y = (_SIZE / 2 + dice.between(-slack, slack) for _ in range(2))
    angle = dice.between(0, 2 * math.pi)
    stretch, shear = math.exp(dice.between(-0.09, 0.09)), dice.between(-0.12, 0.12)
    x, y = (_GRID[0].ravel() - centre_x) / scale, (_GRID[1].ravel() - centre_y) / scale
    c, s = math.cos(angle), math.sin(angle)
    x, y = c * x + s * y, c * y - s * x
    points = np.stack([x / stretch - shear * y, y * stretch])
    distance = scale * _distance(CLASS_NAMES[label], points).reshape(_SIZE, _SIZE)  # pixels
    inside = _coverage(distance)

    # Luma carries the contrast, since views may lose their colours.
    light = dice.between(0, 1) < 0.5  # a light background
    palettes = _ON_LIGHT if light else _ON_DARK
    hue, other = palettes[int(dice.between(0, len(palettes)))]
    hue, other = (hue + dice.between(-0.03, 0.03)) % 1, (other + dice.between(-0.03, 0.03)) % 1
    if light:
        ground, figure, away = dice.between(0.8, 0.88), dice.between(0.3, 0.4), -0.14
    else:
        ground, figure, away = dice.between(0.16, 0.24), dice.between(0.6, 0.7), 0.16
    pastel = dice.between(0.3, 0.45) if light else dice.between(0.5, 0.65)
    vivid = dice.between(0.75, 0.9)
    low = _colour(hue, pastel, ground)
    high = _colour((hue + 0.05) % 1, pastel, ground + (0.08 if light else -0.08))
    fill = _colour(other, vivid, figure)
    fill_far = _colour((other + dice.between(-0.06, 0.06)) % 1, vivid, figure + away)

    image = _background(dice, low, high)
    edge = dice.choice({"none": 0.7, "outline": 0.1, "shadow": 0.2})
    if edge == "shadow":
        shifted = np.pad(distance, ((1, 0), (1, 0)), mode="edge")[:-1, :-1]
        image = image * (1 - 0.35 * _coverage(shifted - 0.5, softness=3.0)[..., None])
    filling = _texture(dice, fill, fill_far)
    if edge == "outline":
        line = _colour(other, vivid, 0.12 if light else 0.95)
        filling = _mix(line, filling, _coverage(distance + 1.2))
    image = _mix(image, filling, inside)
    noise = (rng.random((2, _SIZE, _SIZE, 1)).sum(axis=0) - 1) * dice.between(0, 0.03)
    image = np.clip(image + noise, 0, 1)
    # In float64 throughout: last-bit differences between NumPy builds then never reach a byte.
    return np.floor(image * 255 + 0.5).astype(np.uint8), inside


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
    VERSION = tfds.core.Version("1.0.0")
    # Nothing is downloaded. Said here, TFDS does not search its package for checksums, which on
    # Python 3.12 needs importlib_resources, a package it does not bring.
    url_infos = None

    def _info(self) -> tfds.core.DatasetInfo:
        return _LocalInfo(
            builder=self,
            description="Ten drawn shapes under random colour, texture, position, size, rotation.",
            features=tfds.features.FeaturesDict({
                "image": tfds.features.Image(
                    shape=(_SIZE, _SIZE, 3), dtype=np.uint8, encoding_format="png"
                ),
                "label": tfds.features.ClassLabel(names=CLASS_NAMES),
            }),
            supervised_keys=("image", "label"),
        )  # fmt: skip

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing to download
        return {
            "train": self._generate_examples("train", NUM_TRAIN),
            "test": self._generate_examples("test", NUM_TEST),
        }

    def _generate_examples(self, split: str, count: int):
        for index in range(count):
            image, label = example(split, index)
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
    try:
        # TFDS's progress bars and banners say "download", which is not what happens here.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
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
