"""Numbers of the official code."""

import pathlib

import numpy as np
import pytest

GOLDEN_FILE = pathlib.Path(__file__).parents[2] / "golden" / "augment.npz"


@pytest.fixture(scope="session")
def golden():
    """{name: array} of golden/augment.npz."""
    with np.load(GOLDEN_FILE) as file:
        return dict(file)
