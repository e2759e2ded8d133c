"""The transfer table: what is run for each data set, and what becomes of those that are missing."""

import csv
import json
from pathlib import Path

import pytest

import series
import transfer
from tf_simclr.cli import flags


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    path = tmp_path / "curve"
    path.mkdir()
    (path / "config.gin").write_text("Model.resnet_depth = 18\nData.image_size = 32\n")
    return path


@pytest.fixture
def run_configs(monkeypatch):
    """The settings of each run; in the place of run.py. Larger rates are better, up to 0.01."""
    configs = []

    class Done:
        returncode = 0

    def run(program, stdout, stderr):
        config = flags.parse(["run.py", *program[2:]]).config
        configs.append(config)
        folder = Path(config.runtime.model_dir)
        if config.runtime.mode == "probe":
            accuracies = {"top_1": 0.9, "mean_per_class": 0.8}
            encoders = {"pretrained": {"logistic": accuracies}}
            if config.probe.probe_baselines:
                encoders["untrained"] = {"logistic": {"top_1": 0.3, "mean_per_class": 0.2}}
            metric = transfer.metric_for(config.data.dataset)
            content = {"metric": metric, "encoders": encoders}
            (folder / "result_probe.json").write_text(json.dumps(content))
        else:
            rate, decay = config.optimizer.learning_rate, config.optimizer.weight_decay
            top_1 = 0.5 + (rate if rate <= 0.01 else -rate) - decay
            (folder / "result.json").write_text(json.dumps({series.TOP_1: top_1}))
        return Done()

    monkeypatch.setattr(series.subprocess, "run", run)
    return configs


def test_table_and_missing(tmp_path, checkpoint, run_configs, monkeypatch, capsys, shapes_dir):
    monkeypatch.setattr(transfer, "is_prepared", lambda name, data_dir: name != "cars196")
    work_dir = tmp_path / "work"
    transfer.main(
        [
            f"--checkpoint={checkpoint}",
            f"--work_dir={work_dir}",
            f"--data_dir={shapes_dir}",
            "--datasets=cifar10,cars196,voc/2007,oxford_flowers102,shapes",
            "--baselines",
            "--",
            "--eval_batch_size=64",
        ]
    )
    text = capsys.readouterr().out
    assert text == (
        "|  | CIFAR10 (top-1) | Cars (top-1) | VOC2007 (top-1) | Flowers (mean per class) | "
        "shapes (top-1) |\n| --- | --- | --- | --- | --- | --- |\n"
        "| Linear evaluation | 90.0 | - | - | 80.0 | 90.0 |\n"
        "| Linear evaluation, untrained | 30.0 | - | - | 20.0 | 30.0 |\n\n"
        f"Cars: not prepared in {shapes_dir} (--download would).\n\n"
        "VOC2007: images of several classes, which run.py does not take.\n"
    )
    assert (work_dir / "table.md").read_text() == text
    with open(work_dir / "table.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[1] == ["Linear evaluation", "90.0", "-", "-", "80.0", "90.0"]
    assert [c.data.dataset for c in run_configs] == ["cifar10", "oxford_flowers102", "shapes"]
    assert [c.probe.probe_validation_split for c in run_configs] == [None, "validation", None]
    for config in run_configs:
        assert config.runtime.mode == "probe" and config.data.eval_split == "test"
        assert config.training.checkpoint == str(checkpoint)
        assert config.training.eval_batch_size == 64 and config.model.resnet_depth == 18


def test_fine_tuning_chooses_on_the_validation_part_and_trains_on_all(
    tmp_path, checkpoint, run_configs, capsys, shapes_dir
):
    transfer.main(
        [
            f"--checkpoint={checkpoint}",
            f"--work_dir={tmp_path / 'work'}",
            "--datasets=shapes",
            f"--data_dir={shapes_dir}",
            "--finetune",
            "--learning_rates=0.001,0.01,0.1",
            "--weight_decays=0,1e-3",
            "--steps=7",
        ]
    )
    assert "| Fine-tuned (top-1) | 51.0 |" in capsys.readouterr().out
    tuned = [c for c in run_configs if c.runtime.mode != "probe"]
    assert len(tuned) == 3 * 2 + 1
    for config in tuned[:-1]:
        assert (config.data.train_split, config.data.eval_split) == ("train[:90%]", "train[90%:]")
    last = tuned[-1]
    assert (last.data.train_split, last.data.eval_split) == ("train", "test")
    assert (last.optimizer.learning_rate, last.optimizer.weight_decay) == (0.01, 0.0)
    for config in tuned:
        assert config.training.train_steps == 7 and config.training.train_batch_size == 256
        # 12,000 pictures (10,800 of them for the grid) make 46.9 (42.2) steps an epoch.
        assert config.model.batch_norm_decay == 0.9


def test_the_twelve_of_the_paper():
    titles = [data.title for data in transfer.DATASETS.values()]
    assert titles == [
        "Food",
        "CIFAR10",
        "CIFAR100",
        "Birdsnap",
        "SUN397",
        "Cars",
        "Aircraft",
        "VOC2007",
        "DTD",
        "Pets",
        "Caltech-101",
        "Flowers",
    ]
    per_class = [n for n in transfer.DATASETS if transfer.metric_for(n) == "mean_per_class"]
    assert per_class == ["fgvc_aircraft", "oxford_iiit_pet", "caltech101", "oxford_flowers102"]
    assert transfer.spec("sun397").title == "SUN397"


def test_what_is_prepared(shapes_dir, tmp_path):
    assert transfer.is_prepared("shapes") and not transfer.is_prepared("cifar10", str(tmp_path))
