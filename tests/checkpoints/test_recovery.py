"""Checkpoints that cannot be read or written."""

import resource

import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.checkpoints.run_checkpoints import Checkpointer, NotSaved
from tf_simclr.checkpoints.weights import read_weights
from tf_simclr.config import Model
from tf_simclr.errors import ConfigError
from tf_simclr.models.simclr import SimCLR
from tf_simclr.optim import policy


@pytest.fixture(scope="module")
def parts():
    model = SimCLR(2, image_size=32, network=Model(resnet_depth=18, width_multiplier=0.0625))
    optimizer = policy.make_optimizer(model, "lars", 0.1, momentum=0.9, weight_decay=0.0)
    return model, optimizer


@pytest.fixture
def checkpointer(parts, tmp_path):
    """A run with checkpoints at steps 1 and 2; the head's bias holds the step."""
    model, optimizer = parts
    created = Checkpointer(model, optimizer, str(tmp_path), max_to_keep=3)
    for step in (1, 2):
        set_step(parts, step)
        created.save()
    set_step(parts, 0)
    return created


def set_step(parts, step):
    model, optimizer = parts
    optimizer.iterations.assign(step)
    bias(model).assign([step, step])


def bias(model):
    return model.variables_by_path()["head_supervised/dense/bias"]


def data_file(checkpointer, step):
    return f"{checkpointer.directory}/ckpt-{step}.data-00000-of-00001"


def truncate(path):
    with open(path, "r+b") as file:
        file.truncate(100)


def flip_a_byte(path):
    with open(path, "r+b") as file:
        content = bytearray(file.read())
        content[len(content) // 2] ^= 0xFF
        file.seek(0)
        file.write(content)


@pytest.mark.parametrize("corrupt", [truncate, flip_a_byte])
def test_a_corrupt_checkpoint_falls_back_on_the_one_before(parts, checkpointer, corrupt, capsys):
    corrupt(data_file(checkpointer, 2))
    assert checkpointer.restore_latest() == f"{checkpointer.directory}/ckpt-1"
    assert checkpointer.step == 1
    np.testing.assert_array_equal(np.asarray(bias(parts[0])), [1, 1])
    assert "ckpt-2 cannot be read" in capsys.readouterr().err
    # Back at step 2, the run writes the corrupt checkpoint anew.
    set_step(parts, 2)
    checkpointer.save()
    set_step(parts, 0)
    assert checkpointer.restore_latest().endswith("ckpt-2") and checkpointer.step == 2


def test_an_unreadable_index_falls_back_too(checkpointer):
    truncate(f"{checkpointer.directory}/ckpt-2.index")
    checkpointer.check_latest()
    assert checkpointer.restore_latest().endswith("ckpt-1")


def test_a_corrupt_checkpoint_to_start_from_is_an_error_that_names_the_flag(checkpointer):
    truncate(data_file(checkpointer, 2))
    with pytest.raises(ConfigError, match="checkpoint .* cannot be read"):
        read_weights(checkpointer.directory)


def test_no_readable_checkpoint_is_an_error_that_names_model_dir(checkpointer):
    for step in (1, 2):
        truncate(data_file(checkpointer, step))
    with pytest.raises(ConfigError, match="model_dir .* none of its 2 checkpoints can be read"):
        checkpointer.restore_latest()


def test_a_full_disk_leaves_the_earlier_checkpoints_and_nothing_half_written(parts, checkpointer):
    before = sorted(tf.io.gfile.listdir(checkpointer.directory))
    set_step(parts, 3)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on the size of files stands for the full disk: the same writes fail.
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(NotSaved, match="ckpt-3 cannot be written .*last good .*ckpt-2"):
            checkpointer.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(tf.io.gfile.listdir(checkpointer.directory)) == before
    assert checkpointer.restore_latest().endswith("ckpt-2")


def test_a_checkpoint_file_written_by_hand_is_believed(checkpointer, parts):
    """Without the time stamps that the manager writes."""
    directory = checkpointer.directory
    with open(f"{directory}/checkpoint", "w") as file:
        file.write('model_checkpoint_path: "ckpt-1"\nall_model_checkpoint_paths: "ckpt-1"\n')
    again = Checkpointer(*parts, directory, max_to_keep=3)
    assert again.restore_latest() == f"{directory}/ckpt-1"
    assert again.step == 1
