"""Sprites: every thumbnail at its place, within the budget."""

import io

import numpy as np
import pytest
from PIL import Image

from tf_simclr.report.images import thumbnails


def opened(sprite) -> np.ndarray:
    assert sprite.media_type == "image/webp"
    return np.asarray(Image.open(io.BytesIO(sprite.image)).convert("RGB"))


def photographs(count: int, side: int) -> np.ndarray:
    """Images with as much detail as photographs: a random texture of every scale."""
    rng = np.random.default_rng(0)
    total = np.zeros((count, side, side, 3), np.float32)
    step = side
    while step >= 2:
        cells = rng.normal(size=(count, side // step, side // step, 3)).astype(np.float32)
        total += step**0.7 * cells.repeat(step, 1).repeat(step, 2)
        step //= 2
    return (128 + 40 * total / total.std()).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_thumbnails_stand_row_by_row(count):
    colors = np.random.default_rng(0).integers(0, 256, (count, 1, 1, 3), np.uint8)
    sprite = thumbnails.pack(np.broadcast_to(colors, (count, 32, 32, 3)))
    assert (sprite.side, sprite.count) == (32, count)
    picture = opened(sprite).astype(int)
    assert picture.shape[1] == 32 * sprite.columns
    for i in range(count):
        row, column = divmod(i, sprite.columns)
        pixel = picture[32 * row + 16, 32 * column + 16]
        assert np.abs(pixel - colors[i, 0, 0]).max() <= 12


def test_large_images_become_small_and_small_ones_are_not_enlarged():
    assert thumbnails.pack(np.zeros((3, 64, 64, 3), np.uint8)).side == 32
    assert thumbnails.pack(np.zeros((3, 20, 20, 3), np.uint8)).side == 20


@pytest.mark.parametrize("count, smallest_side", [(500, 32), (2500, 16)])
def test_thumbnails_fit_the_budget(count, smallest_side):
    budget = 325_000  # of 1.3 MB for 2,000 and for 10,000
    sprite = thumbnails.pack(photographs(count, 32), budget=budget)
    assert len(sprite.image) <= budget and sprite.side >= smallest_side
    assert opened(sprite).shape[1] == sprite.side * sprite.columns


def test_an_impossible_budget_gives_the_smallest():
    assert thumbnails.pack(photographs(20, 32), budget=10).side == 8
