"""Wrong settings: one line that names the flag and the way out, before anything is written."""

import re

import pytest

import small

TINY = (
    *small.RUN,
    "--dataset=shapes",
    "--eval_split=test",
    "--train_steps=1",
)


CASES = {
    "dataset name": (["--dataset=cifar11"], ["dataset", "cifar11", "cifar10"]),
    "data_dir missing": (["--data_dir=/nowhere/at/all"], ["data_dir", "/nowhere/at/all"]),
    "split": (["--train_split=trian"], ["train_split", "trian", "test"]),
    "batch larger than the data": (
        ["--train_split=train[:10]"],
        ["train_batch_size", "10", "16", "lower it"],
    ),
    "batch and replicas": (
        ["--train_batch_size=17", "--cpu_replicas=2"],
        ["train_batch_size", "2 replicas", "16"],
    ),
    "compiled replicas": (
        ["--jit_compile", "--cpu_replicas=2"],
        ["jit_compile", "2 replicas", "False"],
    ),
    "steps to profile": (["--profile_steps=20,10"], ["profile_steps", "20,10", "FIRST,LAST"]),
    "range of values": (["--image_range=4095,0"], ["image_range", "4095,0", "LOW,HIGH"]),
    "gin file": (["--gin_file=nothing.gin"], ["gin_file", "nothing.gin", "gin/demo.gin"]),
    "image size": (["--image_size=0"], ["image_size", "0", "at least"]),
    "temperature": (["--temperature=-0.1"], ["temperature", "-0.1", "greater than 0"]),
    "block number when pretraining": (
        ["--fine_tune_after_block=2"],
        ["fine_tune_after_block", "-1", "2"],
    ),
    "unknown block number": (
        ["--train_mode=finetune", "--fine_tune_after_block=7"],
        ["fine_tune_after_block", "7", "between -1 and 4"],
    ),
    "fine-tuning without a checkpoint": (
        ["--train_mode=finetune"],
        ["checkpoint", "None", "--checkpoint=DIR", "--from_scratch"],
    ),
    "evaluating nothing": (
        ["--eval_every_epochs=1", "--lineareval_while_pretraining=False"],
        ["eval_every_epochs", "1.0", "supervised head", "lineareval_while_pretraining"],
    ),
    "unknown flag": (["--temprature=1"], ["--temprature", "--temperature"]),
    "checkpoint missing": (["--checkpoint=/no/such/ckpt-1"], ["checkpoint", "/no/such/ckpt-1"]),
    "data service": (["--data_service=host:5050"], ["data_service", "grpc://HOST:PORT", "'host:"]),
    "multi_worker without a cluster": (
        ["--strategy=multi_worker"],
        ["strategy", "TF_CONFIG", "srun"],
    ),
    "not a number": (["--learning_rate=fast"], ["learning_rate", "fast"]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_setting_is_one_line_and_leaves_nothing(name, shapes_dir, tmp_path):
    arguments, words = CASES[name]
    model_dir = tmp_path / "run"
    message = small.refused(
        *TINY, f"--data_dir={shapes_dir}", f"--model_dir={model_dir}", *arguments
    )
    for word in words:
        assert word in message, message
    assert not model_dir.exists()


@pytest.mark.long
def test_a_model_dir_of_another_model_is_refused_and_left_alone(shapes_dir, tmp_path):
    settings = (*TINY, f"--data_dir={shapes_dir}", f"--model_dir={tmp_path}")
    small.run(*settings)
    before = sorted((p.name, p.stat().st_mtime_ns) for p in tmp_path.iterdir())
    message = small.refused(*settings, "--width_multiplier=0.125", "--train_steps=2")
    assert "model_dir" in message and "another model" in message and "base_model/" in message
    message = small.refused(*settings, "--optimizer=adam", "--train_steps=2")
    assert "model_dir" in message and "another optimizer" in message
    assert sorted((p.name, p.stat().st_mtime_ns) for p in tmp_path.iterdir()) == before


def test_without_model_dir_the_error_says_where_to_put_one():
    assert "--model_dir=" in small.refused(*TINY)


def test_the_program_prints_one_line_and_exits_nonzero(shapes_dir, tmp_path):
    done = small.run_alone(
        *TINY,
        f"--data_dir={shapes_dir}",
        f"--model_dir={tmp_path / 'run'}",
        "--train_batch_size=20000",
        expect=1,
    )
    # TensorFlow 2.21 itself writes lines about the machine before anything can silence it.
    noise = re.compile(r"[IW]0000 |WARNING: All|To enable the following")
    lines = [line for line in done.stderr.splitlines() if not noise.match(line)]
    assert len(lines) == 1 and lines[0].startswith("run.py: train_batch_size must be at most")
    assert not (tmp_path / "run").exists()
