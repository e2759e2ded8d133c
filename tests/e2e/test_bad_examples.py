"""A run on a data set with examples that cannot be decoded: goes through, counts, resumes."""

import functools
import json
import shutil

import numpy as np
import pytest

import bad_images
import small
from tf_simclr import experiment
from tf_simclr.checkpoints import weights

pytestmark = pytest.mark.long

TINY = (
    *small.RUN,
    "--dataset=bad_images",
    "--eval_split=test",
    "--eval_batch_size=8",
    "--train_steps=4",
    "--checkpoint_steps=2",
    "--train_summary_steps=2",
    "--mode=train_then_eval",
)


run = functools.partial(small.run, *TINY)


def final_weights(model_dir):
    return weights.read_weights(f"{model_dir}/ckpt-4")


def test_a_run_counts_them_and_resumes_exactly(bad_images_dir, tmp_path, events, capsys):
    model_dir, resumed = tmp_path / "run", tmp_path / "resumed"
    data = f"--data_dir={bad_images_dir}"
    results = run(data, f"--model_dir={model_dir}", "--probe_summary")
    said = capsys.readouterr().err
    counts = events(model_dir)["train/skipped_examples"]
    total = sum(int(count) for count in counts.values())
    assert list(counts) == [2, 4]
    # 64 examples: an epoch of 48 with all five bad ones and a third of the next.
    assert 5 <= total <= 10
    assert f"{total} undecodable examples were replaced in steps 0 to 4 (--str" in said
    # The evaluation and a probe both read the split.
    assert said.count("3 of 20 examples of split test could not be decoded and were left out") == 1
    assert said.count("5 of 48 examples of split train could not be decoded") == 1
    assert results["eval/skipped_examples"] == len(bad_images.BAD_TEST)
    written = json.loads((model_dir / "result.json").read_text())
    assert written["eval/skipped_examples"] == 3
    seventeenths = 17 * written["eval/label_top_5_accuracy"]
    assert seventeenths == pytest.approx(round(seventeenths), abs=1e-4)
    assert "probe/pretrained" in results

    resumed.mkdir()
    for file in model_dir.glob("ckpt-2.*"):
        shutil.copy(file, resumed)
    (resumed / "checkpoint").write_text(
        'model_checkpoint_path: "ckpt-2"\nall_model_checkpoint_paths: "ckpt-2"\n'
        "all_model_checkpoint_timestamps: 1.0\n"
    )
    run(data, f"--model_dir={resumed}")
    assert f"{int(counts[4])} undecodable examples were replaced in steps 2 to 4" in (
        capsys.readouterr().err
    )
    expected, found = final_weights(model_dir), final_weights(resumed)
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value, err_msg=path)


def test_strict_data_stops_at_one_and_names_it(bad_images_dir, tmp_path):
    with pytest.raises(experiment.FAILURES) as caught:
        run(f"--data_dir={bad_images_dir}", f"--model_dir={tmp_path}", "--strict_data")
    message = str(caught.value)
    assert "dataset bad_images, split train: example bad_images-train.tfrecord-" in message
    assert "\n" not in message and "--strict_data=False" in message
