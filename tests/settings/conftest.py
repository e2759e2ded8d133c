"""What the tests of whole settings share: tiny depths, pictures, a teacher, a way to run."""

import numpy as np
import pytest
from PIL import Image

from tf_simclr import experiment
from tf_simclr.cli import flags
from tf_simclr.models import resnet

NUM_TRAIN, NUM_TEST = 260, 40


@pytest.fixture(scope="session")
def run():
    """Function: arguments of run.py -> what it returns, in this process."""

    def run(*arguments) -> dict:
        config = flags.parse(["run.py", *arguments]).config
        return experiment.run(config)

    return run


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


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """One block a group: deeper networks have no other layers, and take minutes to trace."""
    with pytest.MonkeyPatch.context() as patch:
        for depth in resnet.BLOCKS_PER_GROUP:
            patch.setitem(resnet.BLOCKS_PER_GROUP, depth, (1, 1, 1, 1))
        yield


@pytest.fixture(scope="module")
def address(data_service):
    """The address of a tf.data service with one worker."""
    with data_service(1) as address:
        yield address


@pytest.fixture(scope="module")
def teacher(shapes_dir, tmp_path_factory, run):
    """The model_dir of a fine-tuned run that knows the ten classes of shapes."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    run(
        "--dataset=shapes",
        f"--data_dir={shapes_dir}",
        "--train_mode=finetune",
        "--from_scratch",
        "--resnet_depth=18",
        "--width_multiplier=0.0625",
        "--image_size=32",
        "--mode=train",
        "--train_batch_size=16",
        "--train_steps=1",
        "--warmup_epochs=0",
        "--seed=1",
        f"--model_dir={folder}",
    )
    return folder
