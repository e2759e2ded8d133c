"""What the tests of whole settings share: shallow networks, pictures, a teacher."""

import numpy as np
import pytest
from PIL import Image

import small
from small import shallow  # noqa: F401 (a fixture that all tests of this folder use)

NUM_TRAIN, NUM_TEST = 260, 40


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of JPEGs of two classes, some of them gray or upright."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for split, count in (("train", NUM_TRAIN), ("validation", NUM_TEST)):
        for i in range(count):
            folder = root / split / ("light" if i % 2 else "dark")
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 128, (48 + i % 9, 40 + i % 7, 3)) + 127 * (i % 2)
            image = Image.fromarray(pixels.astype(np.uint8)).convert("L" if i % 5 == 0 else "RGB")
            image.save(folder / f"{i}.jpg")
    return root


@pytest.fixture(scope="module")
def address(data_service):
    """The address of a tf.data service with one worker."""
    with data_service(1) as address:
        yield address


@pytest.fixture(scope="module")
def teacher(shapes_dir, tmp_path_factory):
    """The model_dir of a fine-tuned run that knows the ten classes of shapes."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    small.run(
        *small.RUN,
        "--dataset=shapes",
        f"--data_dir={shapes_dir}",
        "--train_mode=finetune",
        "--from_scratch",
        "--mode=train",
        "--train_steps=1",
        f"--model_dir={folder}",
    )
    return folder
