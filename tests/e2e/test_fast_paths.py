"""All that makes a run smaller or faster, at once, as a user types it."""

import subprocess

import numpy as np
import pytest
import tensorflow as tf

import small
from tf_simclr.checkpoints.weights import read_weights

pytestmark = pytest.mark.long


@pytest.mark.parametrize("more", [(), pytest.param(("--jit_compile",), marks=pytest.mark.shared)])
def test_micro_batches_of_float16_with_a_trace(shapes_dir, events, tmp_path, more):
    command = small.command(
        *small.RUN,
        "--dataset=shapes",
        f"--data_dir={shapes_dir}",
        "--train_split=train[:64]",
        "--train_summary_steps=1",
        "--precision=float16",
        "--microbatch_size=8",
        "--loss_block_rows=5",
        "--augment_on=device",
        "--checkpoint_steps=4",
        "--keep_checkpoint_max=9",
        f"--model_dir={tmp_path}",
        *more,
    )
    subprocess.run(
        [*command, "--train_steps=6", "--profile_steps=2,3"],
        check=True,
        capture_output=True,
        timeout=300,
    )
    assert len(list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))) == 1
    summaries = events(tmp_path)
    assert list(summaries["train/loss_scale"]) == [1, 2, 3, 4, 5, 6]
    assert np.isfinite([float(v) for v in summaries["train/contrast_loss"].values()]).all()
    found = read_weights(f"{tmp_path}/ckpt-6")
    before = read_weights(f"{tmp_path}/ckpt-4")
    assert all(value.dtype == np.float32 and np.isfinite(value).all() for value in found.values())
    assert any(not np.array_equal(value, before[path]) for path, value in found.items())

    # From the checkpoint before, in the same micro-batches, it comes to the same end.
    for file in tmp_path.glob("ckpt-6.*"):
        file.unlink()
    tf.compat.v1.train.update_checkpoint_state(tmp_path, f"{tmp_path}/ckpt-4")
    resumed = subprocess.run(
        [*command, "--train_steps=6"], check=True, capture_output=True, text=True, timeout=300
    )
    assert "steps 4 to 6" in resumed.stderr and "Micro-batches of 8 images" in resumed.stderr
    for path, value in read_weights(f"{tmp_path}/ckpt-6").items():
        np.testing.assert_array_equal(value, found[path], err_msg=path)
