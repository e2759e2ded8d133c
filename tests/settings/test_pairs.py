"""Runs the table of settings, each row as its user would: by a command line.

The rows are part of `make test-long`. The rules are tested in `make test`.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import table
import tensorflow as tf

import small
from tf_simclr.checkpoints import result_files, weights

ROWS = table.rows()
MINUTES = [row for row in ROWS if table.seconds(row) > 200]
ONE_RUN = Path(__file__).with_name("one_run.py")


@pytest.fixture
def command(request, shapes_dir, pictures, tmp_path):
    """Function: row of the table -> arguments of run.py."""

    def arguments(row: dict) -> list[str]:
        row = dict(row)
        real = {"imagenet2012": "validation", "cifar10": "test"}
        if row["dataset"] in real:
            data_dir = request.getfixturevalue("shared_dir") / "tfds"
        else:
            data_dir = {"shapes": shapes_dir}.get(row["dataset"], pictures)
        split = real.get(row["dataset"], "test" if row["dataset"] == "shapes" else "validation")
        if row.pop("data_service"):
            row["data_service"] = request.getfixturevalue("address")
        if row["dataset"] == "unlabelled":
            row |= {"dataset": "folder", "unlabelled": True}
        of_a_replica = row["train_batch_size"] // row["cpu_replicas"]
        row["microbatch_size"] = of_a_replica // row.pop("microbatches")
        if row["train_mode"] == "distill":
            row["teacher"] = request.getfixturevalue("teacher")
        return [
            *(f"--{flag}={value}" for flag, value in row.items()),
            f"--data_dir={data_dir}",
            f"--eval_split={split}",
            "--width_multiplier=0.125",
            "--eval_batch_size=16",
            "--eval_steps=2",
            "--mode=train_then_eval",
            "--seed=3",
            "--train_summary_steps=1",
            f"--model_dir={tmp_path / 'run'}",
            *(["--from_scratch"] if row["train_mode"] == "finetune" else []),
        ]

    return arguments


def run_alone(row: dict, *arguments):
    """Runs in a process of its own: replicas and the service find nothing that others left."""
    where = "accelerator" if row["augment_on"] == "auto" else "cpu"
    done = subprocess.run(
        [sys.executable, str(ONE_RUN), where, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-5000:]


def check_row(row: dict, arguments: list[str], folder, events):
    run_alone(row, *arguments, "--train_steps=2")
    assert os.path.isdir(folder / "saved_model" / "2")
    assert weights.read_weights(str(folder / "ckpt-2"))
    run_alone(row, *arguments, "--train_steps=3")
    assert (folder / "ckpt-3.index").exists()
    for tag, values in events(folder).items():
        if tag.startswith("train/"):
            # The first step of each start compiles, so its speed is not measured.
            is_speed = tag in ("train/images_per_second", "train/input_wait")
            assert set(values) == ({2} if is_speed else {1, 2, 3}), tag
            assert all(np.isfinite(value) for value in values.values()), tag

    loaded = tf.saved_model.load(str(folder / "saved_model" / "3"))
    images = tf.zeros((2, row["image_size"], row["image_size"], 3))
    endpoints = loaded(images, trainable=False)
    assert all(value.dtype == tf.float32 for value in endpoints.values())
    assert np.isfinite(endpoints["final_avg_pool"]).all()
    has_head = row["train_mode"] != "pretrain" or (
        row["lineareval_while_pretraining"] and row["dataset"] != "unlabelled"
    )
    assert ("logits_sup" in endpoints) == has_head
    # Of a teacher's ten classes only those of its own data set can be evaluated.
    if has_head and not (row["train_mode"] == "distill" and row["dataset"] != "shapes"):
        written = json.loads((folder / "result.json").read_text())
        assert written["global_step"] == 3
        assert all(math.isfinite(value) for value in written.values())
        assert 0 <= written["eval/label_top_1_accuracy"] <= 1
    if row["eval_every_epochs"]:
        assert result_files.read_best(str(folder), result_files.TOP_1).step in (1, 2, 3)
        assert os.listdir(folder / "saved_model_best")


@pytest.mark.long
@pytest.mark.shared
@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=pytest.mark.minutes) if row in MINUTES else row for row in ROWS],
    ids=map(table.name, ROWS),
)
def test_a_row_runs(row, command, tmp_path, events):
    check_row(row, command(row), tmp_path / "run", events)


def test_only_pairs_that_rules_forbid_are_not_in_the_table():
    covered = set().union(*map(table.pairs, ROWS))
    for pair in table.all_pairs():
        if pair not in covered:
            # Alone, or with whatever a third setting is.
            alone = not table.is_allowed(dict(pair))
            assert alone or any(
                all(not table.is_allowed(dict(pair) | {name: value}) for value in values)
                for name, values in table.FACTORS.items()
            ), pair
    assert 30 <= len(ROWS) <= 60


@pytest.mark.parametrize("rule", table.RULES, ids=lambda rule: rule.flag)
def test_what_rules_forbid_is_refused_by_name_before_anything_is_written(rule, command, tmp_path):
    """In a run that has nothing else to be refused for."""
    plain = {name: values[0] for name, values in table.FACTORS.items()} | {"image_size": 32}
    row = plain | {name: values[0] for name, values in rule.values.items()}
    assert [r.flag for r in table.RULES if r.forbids(row)] == [rule.flag]
    assert rule.flag in small.refused(*command(row), "--train_steps=2")
    assert not (tmp_path / "run").exists()
