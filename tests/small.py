"""The one way in which tests make small runs, networks and data sets."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from tf_simclr import experiment
from tf_simclr.cli import flags
from tf_simclr.config import Config
from tf_simclr.errors import ConfigError
from tf_simclr.models import resnet

ROOT = Path(__file__).resolve().parents[1]
# The smallest network that has all layers, and settings that fit few images. Later flags win.
RUN = (
    "--image_size=32",
    "--resnet_depth=18",
    "--width_multiplier=0.0625",
    "--train_batch_size=16",
    "--warmup_epochs=0",
    "--monitor_images=0",
    "--seed=3",
)
# Fine-tuning of all layers on 64 shapes, fast enough to see the loss fall.
FINETUNE = (
    *RUN,
    "--dataset=shapes",
    "--train_split=train[:64]",
    "--eval_split=test[:200]",
    "--train_mode=finetune",
    "--from_scratch",
    "--optimizer=momentum",
    "--learning_rate=3",
)
# SimCLRv2, table 1: depth, width multiplier, sk_ratio, millions of parameters of the encoder.
PUBLISHED_SIZES = [
    (50, 1, 0, 24),
    (50, 1, 0.0625, 35),
    (50, 2, 0, 94),
    (50, 2, 0.0625, 140),
    (101, 1, 0, 43),
    (101, 1, 0.0625, 65),
    (152, 1, 0, 58),
    (152, 3, 0.0625, 795),
]


def parse(*arguments: str) -> Config:
    """Returns the settings of a command line of run.py."""
    return flags.parse(["run.py", *arguments]).config


def run(*arguments: str) -> dict:
    """Runs run.py's command line in this process and returns its results."""
    return experiment.run(parse(*arguments))


def refused(*arguments: str) -> str:
    """Returns the one-line error with which run.py refuses a command line."""
    with pytest.raises(ConfigError) as error:
        run(*arguments)
    message = str(error.value)
    assert "\n" not in message
    return message


def command(*arguments: str) -> list[str]:
    """Returns the words that start run.py in a process of its own."""
    return [sys.executable, str(ROOT / "run.py"), *arguments]


def run_alone(*arguments: str, expect: int = 0) -> subprocess.CompletedProcess:
    """Runs run.py in a process of its own and checks its exit code."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300)
    assert done.returncode == expect, done.stderr[-3000:]
    return done


def image_features(num_classes: int, **image_settings) -> tfds.features.FeaturesDict:
    """Describes the examples of a labeled TFDS data set: RGB images of any size."""
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3), **image_settings),
            "label": tfds.features.ClassLabel(num_classes=num_classes),
        }
    )


@contextlib.contextmanager
def one_block_a_group() -> Iterator[None]:
    """Makes ResNets that are built meanwhile shallow: deeper ones have no other layers."""
    with pytest.MonkeyPatch.context() as patch:
        for depth in resnet.BLOCKS_PER_GROUP:
            patch.setitem(resnet.BLOCKS_PER_GROUP, depth, (1, 1, 1, 1))
        yield


@pytest.fixture(scope="module", autouse=True)
def shallow(request):
    """Makes the ResNets of a folder's tests shallow, because deep ones take minutes to trace.

    The conftest.py of the folder imports it. A module opts out by FULL_DEPTH = True.
    """
    if getattr(request.module, "FULL_DEPTH", False):
        yield
    else:
        with one_block_a_group():
            yield
