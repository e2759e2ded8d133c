"""A tiny run killed in a checkpoint, in training and in the export ends as if it had not been."""

import random

import numpy as np
import pytest

import small
from benchmarks import kill_series


@pytest.mark.long
@pytest.mark.shared
def test_kill_9_at_every_stage_changes_nothing(shapes_dir, tmp_path):
    arguments = [
        *small.RUN,
        "--dataset=shapes",
        f"--data_dir={shapes_dir}",
        "--train_split=train[:64]",
        "--eval_split=test[:100]",
        "--train_steps=40",
        "--checkpoint_steps=4",
    ]
    moments = ["checkpoint", "export"]  # while it trains: tests/e2e/test_multi_worker.py
    rows, difference = kill_series.kill_series(
        tmp_path / "work", arguments, moments=moments, rng=random.Random(0)
    )
    assert difference == 0
    assert [row[2] for row in rows] == [f"killed in {moment}" for moment in moments] + ["ended"]
    assert rows[0][1].startswith("0 to ") and rows[1][1] != rows[0][1]
    assert rows[-1][1] == "none left" and rows[-1][3] == "ckpt-40"
    killed = tmp_path / "work" / "killed"
    assert [path.name for path in (killed / "saved_model").iterdir()] == ["40"]
    leftovers = [p.name for p in killed.rglob("*") if "_temp" in p.name or "unfinished" in p.name]
    assert not leftovers


def test_differences_are_found():
    first = {"a": np.zeros(3), "b": np.ones((2, 2))}
    assert kill_series.largest_difference(first, {k: v.copy() for k, v in first.items()}) == 0
    second = first | {"b": np.float64([[1, 1], [1, 0.75]])}
    assert kill_series.largest_difference(first, second) == pytest.approx(0.25)
    assert kill_series.largest_difference(first, {"a": np.zeros(3)}) == float("inf")
