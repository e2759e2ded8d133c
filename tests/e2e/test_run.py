"""run.py as a user types it: pretrain, be interrupted, resume, fine-tune, evaluate, load."""

import json
import os
import re
import signal
import subprocess
import time

import numpy as np
import pytest
import tensorflow as tf

import small
from tf_simclr.checkpoints.weights import read_weights

TINY = (
    *small.RUN,
    "--dataset=shapes",
    "--eval_split=test[:100]",
    "--eval_batch_size=48",
)


def weights(model_dir, step):
    return read_weights(f"{model_dir}/ckpt-{step}")


@pytest.fixture(scope="module")
def tiny(shapes_dir):
    return (*TINY, f"--data_dir={shapes_dir}")


@pytest.fixture(scope="module")
def pretrained(tiny, tmp_path_factory):
    """A run of 7 steps, checkpoints every 3, never interrupted."""
    model_dir = tmp_path_factory.mktemp("runs") / "pretrained"
    done = small.run_alone(
        *tiny,
        "--mode=train_then_eval",
        "--train_split=train[:64]",
        "--train_steps=7",
        "--checkpoint_steps=3",
        "--train_summary_steps=2",
        f"--model_dir={model_dir}",
    )
    return model_dir, done


def test_train_then_eval_trains_exactly_train_steps_and_leaves_every_file(pretrained):
    model_dir, done = pretrained
    names = set(os.listdir(model_dir))
    assert {"ckpt-3.index", "ckpt-6.index", "ckpt-7.index"} <= names
    assert {"config.gin", "flags.json", "result.json", "result_7.json"} <= names
    assert not [name for name in names if "unfinished" in name]
    assert os.listdir(model_dir / "saved_model") == ["7"]
    card = (model_dir / "saved_model" / "7" / "MODEL_CARD.md").read_text()
    assert "up to step 7." in card and "| supervised head, top-1 |" in card
    result = json.loads((model_dir / "result.json").read_text())
    assert set(result) == {
        "eval/regularization_loss",
        "eval/label_top_1_accuracy",
        "eval/label_top_5_accuracy",
        "global_step",
    }
    assert result["global_step"] == 7
    # 100 examples: an accuracy is a whole number of hundredths, the padding does not count.
    hundredths = 100 * result["eval/label_top_1_accuracy"]
    assert hundredths == pytest.approx(round(hundredths), abs=1e-4)
    assert json.loads((model_dir / "flags.json").read_text())["train_steps"] == 7
    assert "Checkpoint:" in done.stdout and f"{model_dir}/saved_model/7" in done.stdout


@pytest.mark.long
def test_a_second_run_has_identical_metrics(pretrained, tiny, events, tmp_path):
    model_dir = tmp_path / "again"
    small.run_alone(
        *tiny,
        "--mode=train_then_eval",
        "--train_split=train[:64]",
        "--train_steps=7",
        "--checkpoint_steps=3",
        "--train_summary_steps=2",
        f"--model_dir={model_dir}",
    )
    for folder in (".", "eval"):
        first, second = events(pretrained[0] / folder), events(model_dir / folder)
        assert first.keys() == second.keys() and first
        for tag, values in first.items():
            assert values.keys() == second[tag].keys()
            for step, value in values.items():
                np.testing.assert_array_equal(second[tag][step], value, err_msg=f"{tag} {step}")
    results = [(folder / "result.json").read_text() for folder in (pretrained[0], model_dir)]
    assert results[0] == results[1]


@pytest.mark.long
def test_an_interrupted_run_ends_with_the_same_weights(pretrained, tiny, tmp_path):
    model_dir = tmp_path / "interrupted"
    settings = (
        *tiny,
        "--mode=train",
        "--train_split=train[:64]",
        "--checkpoint_steps=3",
        f"--model_dir={model_dir}",
    )
    process = subprocess.Popen(
        small.command(*settings, "--train_steps=7"), stderr=subprocess.PIPE, text=True
    )
    deadline = time.time() + 200
    while not (model_dir / "ckpt-3.index").exists() and time.time() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=200)
    if process.returncode:  # else it was through before the signal came
        assert process.returncode == 128 + signal.SIGTERM, stderr[-3000:]
        assert "the same command resumes from there" in stderr
        small.run_alone(f"--model_dir={model_dir}")  # its config.gin knows the rest
    expected, resumed = weights(pretrained[0], 7), weights(model_dir, 7)
    assert expected.keys() == resumed.keys()
    for path in expected:
        np.testing.assert_array_equal(resumed[path], expected[path], err_msg=path)


@pytest.mark.long
def test_a_finished_run_is_not_trained_again(pretrained):
    before = weights(pretrained[0], 7)
    done = small.run_alone("--mode=train", f"--model_dir={pretrained[0]}")
    assert "is trained already: step 7 of 7" in done.stderr
    after = weights(pretrained[0], 7)
    assert all(np.array_equal(before[path], after[path]) for path in before)


@pytest.mark.long
def test_linear_evaluation_from_the_pretrained_run_freezes_the_encoder(pretrained, tiny, tmp_path):
    model_dir = tmp_path / "finetuned"
    done = small.run_alone(
        *tiny,
        "--mode=train_then_eval",
        "--train_mode=finetune",
        "--fine_tune_after_block=4",
        "--zero_init_logits_layer=True",
        "--train_split=train[:64]",
        "--variable_schema=(?!global_step|(?:.*/|^)Momentum|head)",
        "--optimizer=momentum",
        "--learning_rate=0.1",
        "--weight_decay=0",
        "--train_steps=3",
        f"--checkpoint={pretrained[0]}",
        f"--model_dir={model_dir}",
    )
    assert re.search(r"base_model +\d+ +- +-\n +head_contrastive +- +\d+ +-", done.stderr)
    before, after = weights(pretrained[0], 7), weights(model_dir, 3)
    for path, value in before.items():
        if path.startswith("base_model/"):
            np.testing.assert_array_equal(after[path], value, err_msg=path)
    assert np.any(after["head_supervised/dense/kernel"])
    assert json.loads((model_dir / "result.json").read_text())["global_step"] == 3


@pytest.mark.long
def test_eval_follows_the_checkpoints_to_the_last(pretrained):
    (pretrained[0] / "result.json").unlink()
    done = small.run_alone("--mode=eval", f"--model_dir={pretrained[0]}", "--eval_name=again")
    assert "ckpt-7: " in done.stdout
    again = json.loads((pretrained[0] / "result_again_7.json").read_text())
    first = json.loads((pretrained[0] / "result_7.json").read_text())
    assert again == pytest.approx(first)


def test_eval_without_a_checkpoint_gives_up_after_eval_timeout(tiny, tmp_path):
    done = small.run_alone(
        *tiny, "--mode=eval", "--eval_timeout=1", f"--model_dir={tmp_path / 'none'}", expect=1
    )
    assert "got no checkpoint" in done.stderr and "eval_timeout" in done.stderr
    assert not (tmp_path / "none").exists()


def test_the_saved_model_answers_as_the_checkpoint_does(pretrained):
    loaded = tf.saved_model.load(str(pretrained[0] / "saved_model" / "7"))
    images = tf.random.stateless_uniform((2, 32, 32, 3), seed=[1, 2])
    endpoints = loaded(images, trainable=False)
    assert endpoints["logits_sup"].shape == (2, 10)
    assert endpoints["final_avg_pool"].shape == (2, 32)
    head = weights(pretrained[0], 7)
    expected = (
        endpoints["final_avg_pool"] @ head["head_supervised/dense/kernel"]
        + head["head_supervised/dense/bias"]
    )
    np.testing.assert_allclose(endpoints["logits_sup"], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.long
def test_pretraining_without_labels_exports_and_says_what_to_do(tiny, tmp_path):
    done = small.run_alone(
        *tiny,
        "--mode=train_then_eval",
        "--lineareval_while_pretraining=False",
        "--train_split=train[:32]",
        "--train_steps=1",
        "--proj_head_mode=linear",
        "--seed=0",
        f"--model_dir={tmp_path / 'run'}",
    )
    assert "nothing to evaluate" in done.stderr
    assert os.listdir(tmp_path / "run" / "saved_model") == ["1"]


@pytest.mark.long
def test_two_cpu_replicas_train_through_run_py(tiny, tmp_path):
    done = small.run_alone(
        *tiny,
        "--train_split=train[:64]",
        "--train_steps=2",
        "--cpu_replicas=2",
        "--use_blur",
        f"--model_dir={tmp_path / 'run'}",
    )
    assert "as 2 replicas" in done.stderr
    assert (tmp_path / "run" / "ckpt-2.index").exists()


@pytest.mark.long
def test_the_official_cifar10_commands_run_as_they_are(tmp_path, shared_dir):
    """The README of google-research/simclr, but for train_steps, data_dir and model_dir."""
    model_dir = tmp_path / "simclr_test"
    data = f"--data_dir={shared_dir / 'tfds'}"
    arguments = (
        "--train_mode=pretrain --train_batch_size=512 --train_epochs=1000 --learning_rate=1.0 "
        "--weight_decay=1e-4 --temperature=0.5 --dataset=cifar10 --image_size=32 "
        "--eval_split=test --resnet_depth=18 --use_blur=False --color_jitter_strength=0.5 "
        "--use_tpu=False"
    ).split()
    config = small.parse(*arguments, data, f"--model_dir={model_dir}")
    assert config.training.train_epochs == 1000
    # The width of the real thing takes minutes a step here; the rest of the command is as it is.
    small.run_alone(
        "--mode=train_then_eval",
        *arguments,
        data,
        f"--model_dir={model_dir}",
        "--train_steps=1",
        "--width_multiplier=0.0625",
        "--eval_steps=1",
    )
    result = json.loads((model_dir / "result.json").read_text())
    assert result["global_step"] == 1
