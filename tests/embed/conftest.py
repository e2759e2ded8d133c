"""Inputs and checkpoints of the tests of `tf-simclr embed`."""

from pathlib import Path

import made_inputs
import pytest
import tensorflow as tf

from tf_simclr.checkpoints import about_file
from tf_simclr.checkpoints.formats.tensorflow.object_graph import variable_tree


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """(folder, {name: image} of good ones, {name: reason} of bad ones)."""
    folder = tmp_path_factory.mktemp("inputs")
    return folder, *made_inputs.make(folder)


@pytest.fixture(scope="session")
def checkpoint_of(tiny_model, randomize, tmp_path_factory):
    """Function: image size -> the directory of a checkpoint of a narrow ResNet-18."""

    def write(image_size: int, seed=0) -> Path:
        model = tiny_model(image_size=image_size)
        randomize(model, seed)
        directory = tmp_path_factory.mktemp("run")
        about_file.write_about(str(directory), {"image_size": image_size})
        tree = variable_tree(model.variables_by_path())
        tf.train.Checkpoint(model=tf.train.Checkpoint(**tree)).write(f"{directory}/ckpt-1")
        return directory

    return write
