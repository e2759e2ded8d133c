"""metrics.jsonl of runs from the command line: killed, resumed, evaluated in another process."""

import contextlib
import json
import os
import signal
import subprocess
import time

import pytest

import small
from tf_simclr.training import metrics_file

pytestmark = pytest.mark.long

MEASURED = ("train/images_per_second", "train/input_wait")  # differ from run to run
STEPS = 60


def lines(folder) -> list[dict]:
    with open(f"{folder}/metrics.jsonl") as file:
        first, *rest = [json.loads(line) for line in file]
    assert first == {"format": "tf_simclr metrics", "version": 1}
    return rest


def computed(folder) -> list[dict]:
    """The records without what depends on the clock."""
    found = lines(folder)
    for line in found:
        del line["time"]
        for tag in MEASURED:
            line["values"].pop(tag, None)
    return found


def stop_after(step: int, signal_number: int, arguments, folder) -> int:
    """Starts a run, sends a signal when metrics.jsonl has a step, and returns the exit code."""
    process = subprocess.Popen(small.command(*arguments), stderr=subprocess.DEVNULL)
    with contextlib.ExitStack() as stack:
        stack.callback(process.kill)
        while max((each.step for each in metrics_file.read(folder)), default=0) < step:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal_number)
        return process.wait(120)


@pytest.mark.shared
def test_a_run_that_is_killed_and_resumed_is_as_one_that_is_not(shapes_dir, tmp_path):
    arguments = (
        *small.RUN,
        "--dataset=shapes",
        f"--data_dir={shapes_dir}",
        "--train_split=train[:64]",
        f"--train_steps={STEPS}",
        "--train_summary_steps=1",
        "--checkpoint_steps=10",
    )
    killed = [*arguments, f"--model_dir={tmp_path}/killed"]
    folder = str(tmp_path / "killed")
    assert stop_after(13, signal.SIGKILL, killed, folder) == -signal.SIGKILL
    assert max(each.step for each in metrics_file.read(folder)) < STEPS
    assert stop_after(33, signal.SIGTERM, killed, folder) == 128 + signal.SIGTERM
    small.run_alone(*killed)
    small.run_alone(*arguments, f"--model_dir={tmp_path}/whole")
    found = computed(folder)
    assert [line["step"] for line in found] == list(range(1, STEPS + 1))
    assert found == computed(tmp_path / "whole")
    assert [line["epoch"] for line in found] == [step / 4 for step in range(1, STEPS + 1)]


def test_default_settings_at_the_usual_size(shapes_dir, tmp_path, repo_root, events):
    """Training, its evaluations, and one in a process of its own: all tags are documented."""
    folder = f"{tmp_path}/run"
    arguments = (
        "--dataset=shapes",
        f"--data_dir={shapes_dir}",
        "--resnet_depth=18",
        "--width_multiplier=0.0625",
        "--train_batch_size=16",
        "--train_split=train[:48]",
        "--eval_split=test[:40]",
        "--eval_batch_size=40",
        f"--model_dir={folder}",
    )
    small.run(*arguments, "--train_steps=4", "--train_summary_steps=2", "--mode=train_then_eval")
    documented = (repo_root / "docs" / "metrics.md").read_text()
    in_events = events(folder)
    assert [line["step"] for line in lines(folder) if line["kind"] == "train"] == [2, 4]
    for line in lines(folder):
        for tag, value in line["values"].items():
            assert f"`{tag}`" in documented, tag
            assert float(in_events[tag][line["step"]]) == pytest.approx(value, rel=1e-6), tag
    last = [line for line in lines(folder) if line["kind"] == "train"][-1]["values"]
    assert last["train/images_per_second"] > 0 and 0 <= last["train/input_wait"] <= 1

    [evaluation] = lines(f"{folder}/eval")
    with open(f"{folder}/result.json") as file:
        result = json.load(file)
    assert result == evaluation["values"] | {"global_step": 4}
    assert (evaluation["kind"], evaluation["step"], evaluation["epoch"]) == ("eval", 4, 4 / 3)
    assert all(f"`{tag}`" in documented for tag in evaluation["values"])

    # The same step is evaluated again, and under another name.
    small.run(*arguments, "--mode=eval")
    small.run(*arguments, "--mode=eval", "--eval_name=again")
    assert [line["step"] for line in lines(f"{folder}/eval")] == [4, 4]
    [first], [again] = (metrics_file.read(f"{folder}/{name}") for name in ("eval", "eval_again"))
    assert first.values == again.values == evaluation["values"]
    assert first.epoch == again.epoch == 4 / 3
    assert len(lines(folder)) == len(metrics_file.read(folder)), "an evaluation adds nothing here"
    assert "metrics.jsonl" in os.listdir(folder)
