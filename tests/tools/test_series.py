"""Series of runs: what is made, what is not made twice, and the tables."""

import json
from pathlib import Path

import numpy as np
import pytest

import distillation
import few_labels
import series
from tf_simclr.cli import flags


@pytest.fixture
def fake_runs(monkeypatch):
    """run.py's place is taken by a function that notes its arguments and writes results."""
    configs = []

    class Done:
        returncode = 0

    def run(program, stdout, stderr):
        arguments = program[2:]
        parsed = flags.parse(["run.py", *arguments]).config  # they must be right
        configs.append(parsed)
        # From scratch half of what a checkpoint gives, and a hundredth more for each seed.
        top_1 = (0.4 if parsed.training.checkpoint else 0.2) + parsed.runtime.seed / 100
        model_dir = Path(parsed.runtime.model_dir)
        (model_dir / "result.json").write_text(json.dumps({series.TOP_1: top_1}))
        print("output", file=stdout)
        return Done()

    monkeypatch.setattr(series.subprocess, "run", run)
    run.configs, run.done = configs, Done
    return run


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    path = tmp_path / "curve"
    path.mkdir()
    (path / "config.gin").write_text("Data.dataset = 'shapes'\nModel.resnet_depth = 18\n")
    return path


def test_a_run_is_made_once(tmp_path, fake_runs):
    folder = tmp_path / "run"
    for _ in range(2):
        assert series.result(folder, ["--seed=3", "--from_scratch", "--train_mode=finetune"]) == {
            series.TOP_1: 0.23
        }
    assert len(fake_runs.configs) == 1
    assert (folder / "run.log").read_text() == "output\n"
    series.result(folder, ["--seed=4", "--from_scratch", "--train_mode=finetune"])
    assert len(fake_runs.configs) == 2


def test_a_failed_run_shows_its_last_lines_and_is_made_again(tmp_path, fake_runs, monkeypatch):
    monkeypatch.setattr(fake_runs.done, "returncode", 1)
    with pytest.raises(SystemExit, match="run.py ended with 1:\noutput"):
        series.result(tmp_path / "run", ["--seed=3"])
    monkeypatch.setattr(fake_runs.done, "returncode", 0)
    series.result(tmp_path / "run", ["--seed=3"])
    assert len(fake_runs.configs) == 2


def test_percent_and_table():
    assert series.percent([0.5]) == "50.0"
    values = [0.40, 0.42, 0.47]
    assert series.percent(values) == f"43.0 ± {100 * np.std(values, ddof=1):.1f}" == "43.0 ± 3.6"
    assert series.table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_few_labels(tmp_path, checkpoint, fake_runs, capsys):
    few_labels.main(
        [
            f"--checkpoint={checkpoint}",
            f"--work_dir={tmp_path / 'work'}",
            "--shares=0.01:60,1:3",
            "--seeds=2",
            "--linear_epochs=7",
            "--",
            f"--data_dir={tmp_path}",
        ]
    )
    assert capsys.readouterr().out == (
        "|  | linear, all labels | 1% of the labels, 60 epochs | 100% of the labels, 3 epochs |\n"
        "| --- | --- | --- | --- |\n"
        "| pretrained | 41.0 | 41.5 ± 0.7 | 41.5 ± 0.7 |\n"
        "| from scratch | 21.0 | 21.5 ± 0.7 | 21.5 ± 0.7 |\n"
    )
    seen = [
        (
            bool(c.training.checkpoint),
            c.model.fine_tune_after_block,
            c.data.label_fraction,
            c.training.train_epochs,
            c.data.label_seed,
            c.runtime.seed,
        )
        for c in fake_runs.configs
    ]
    expected = []
    for pretrained in (True, False):
        expected.append((pretrained, 4, 1.0, 7, 0, 1))
        for share, epochs in ((0.01, 60), (1.0, 3)):
            expected += [(pretrained, -1, share, epochs, seed, seed) for seed in (1, 2)]
    assert seen == expected
    for config in fake_runs.configs:
        assert config.model.resnet_depth == 18 and config.training.train_mode == "finetune"
        assert config.data.data_dir == str(tmp_path)
        assert config.training.from_scratch == (not config.training.checkpoint)


def test_distillation(tmp_path, checkpoint, fake_runs, capsys):
    distillation.main(
        [
            f"--checkpoint={checkpoint}",
            f"--work_dir={tmp_path / 'work'}",
            "--share=0.1:30",
            "--seeds=2",
            "--steps=50",
            "--student=--width_multiplier=0.5",
            "--temperature=2",
            "--",
            f"--data_dir={tmp_path}",
        ]
    )
    assert capsys.readouterr().out == (
        "| seed | teacher | student, labels alone | student, distilled | self-distilled |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| 1 | 41.0 | 21.0 | 21.0 | 41.0 |\n"
        "| 2 | 42.0 | 22.0 | 22.0 | 42.0 |\n"
        "| all | 41.5 ± 0.7 | 21.5 ± 0.7 | 21.5 ± 0.7 | 41.5 ± 0.7 |\n"
    )
    for seed in (1, 2):
        teacher, labels, distilled, itself = fake_runs.configs[4 * (seed - 1) : 4 * seed]
        assert teacher.training.checkpoint == itself.training.checkpoint == str(checkpoint)
        assert labels.training.from_scratch and distilled.training.checkpoint is None
        assert [c.model.width_multiplier for c in (teacher, labels, distilled, itself)] == [
            1.0,
            0.5,
            0.5,
            1.0,
        ]
        for config in (teacher, labels):
            assert (config.data.label_fraction, config.data.label_seed) == (0.1, seed)
            assert config.training.train_epochs == 30
        for config in (distilled, itself):
            assert config.distill.teacher == teacher.runtime.model_dir
            assert config.distill.distill_temperature == 2.0 and config.training.train_steps == 50
            assert config.data.label_fraction == 1.0 and config.distill.distill_label_weight == 0
