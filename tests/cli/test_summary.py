"""The summary at the end of a run."""

import os
import re
import shlex

import pytest

from tf_simclr.cli import flags, summary
from tf_simclr.config import Config, saved_settings

RESULTS = {
    "step": 7,
    "checkpoint": "runs/x/ckpt-7",
    "saved_model": "runs/x/saved_model/7",
    "eval/label_top_1_accuracy": 0.25,
    "eval/label_top_5_accuracy": 0.75,
}


def commands(text: str) -> list[list[str]]:
    """Returns the words of each suggested command, as a shell splits them."""
    blocks = re.findall(r"^(?:Next, |Or ).*:\n((?:.*\\\n)*.*)$", text, re.MULTILINE)
    return [shlex.split(block.replace("\\\n", " ")) for block in blocks]


def test_says_how_good_and_where():
    text = summary.format_results(
        Config().replace(train_mode="finetune", model_dir="runs/x"), RESULTS
    )
    for part in ("top-1 25.0%", "top-5 75.0%", "runs/x/ckpt-7", "runs/x/saved_model/7"):
        assert part in text
    assert commands(text) == [["tensorboard", "--logdir=runs/x"]]


def test_an_accuracy_of_a_part_of_the_split_says_so():
    config = Config().replace(train_mode="finetune", model_dir="runs/x", eval_split="test")
    line = "Classifier, on {}imagenet2012 test: top-1 25.0%"
    assert line.format("") in summary.format_results(config, RESULTS)
    text = summary.format_results(config, RESULTS | {"evaluated": (256, 10_000)})
    assert line.format("256 of 10000 images of ") in text


def test_says_which_checkpoint_was_best():
    best = {
        "best_step": 3,
        "best_metric": "eval/label_top_1_accuracy",
        "best_value": 0.5,
        "best_top_1": 0.5,
        "best_saved_model": "runs/x/saved_model_best/3",
    }
    config = Config().replace(train_mode="finetune", model_dir="runs/x")
    text = summary.format_results(config, RESULTS | best)
    assert "Best: step 3, top-1 50.0%, in runs/x/best and runs/x/saved_model_best/3\n" in text


def test_a_probe_is_a_table():
    accuracies = {"top_1": 0.5, "top_5": 0.75, "mean_per_class": 0.4}
    classifiers = {"logistic": accuracies | {"l2": 0.0316}, "knn_200": accuracies | {"top_1": 0.25}}
    results = {
        "checkpoint": "runs/x/ckpt-7",
        "dataset": "oxford_flowers102",
        "path": "runs/p/result.json",
        "examples": {"train": 90, "test": 10},
        "metric": "mean_per_class",
        "encoders": {"pretrained": classifiers, "raw_pixels": classifiers},
    }
    text = summary.format_results(Config().replace(mode="probe", model_dir="runs/p"), results)
    rows = [re.split(r"  +", line.strip()) for line in text.splitlines() if line.startswith("  ")]
    assert rows == [
        ["features", "classifier", "top-1", "top-5", "per class"],
        *(
            row
            for name in ("pretrained", "raw pixels")
            for row in (
                [name, "logistic, l2 0.032", "50.00", "75.00", "40.00"],
                [name, "nearest neighbors, 200", "25.00", "75.00", "40.00"],
            )
        ),
    ]
    assert "The literature reports per class for oxford_flowers102." in text
    assert "runs/p/result.json" in text and "90 training and 10 test images" in text


def test_top_5_is_left_out_where_it_was_not_computed():
    """With fewer than five classes it would always be 100%."""
    results = {k: v for k, v in RESULTS.items() if "top_5" not in k}
    config = Config().replace(train_mode="finetune", model_dir="runs/x")
    text = summary.format_results(config, results)
    assert "top-1 25.0%\n" in text and "top-5" not in text
    accuracies = {"top_1": 0.5, "mean_per_class": 0.4}
    results = {
        "checkpoint": "runs/x/ckpt-7",
        "dataset": "folder",
        "path": "runs/p/result.json",
        "examples": {"train": 90, "test": 10},
        "metric": "top_1",
        "encoders": {"pretrained": {"knn_20": accuracies}},
    }
    text = summary.format_results(Config().replace(mode="probe", model_dir="runs/p"), results)
    assert "top-5" not in text
    assert re.search(r"classifier +top-1 +per class\n.* 50\.00 +40\.00\n", text)


def test_predictions_are_counted():
    config = Config().replace(mode="predict", images="x", model_dir="y")
    results = {"path": "p.csv", "written": 7, "left_out": 2}
    assert summary.format_results(config, results) == "p.csv: 7 images, 2 left out"


PROBES = {
    "probe/raw_pixels": 0.1,
    "probe/untrained": 0.2,
    "probe/pretrained": 0.8,
    "neighbours": "Nearest 7 of 10,000 training images",
    "neighbours/raw_pixels": 0.12,
    "neighbours/untrained": 0.14,
    "neighbours/pretrained": 0.65,
}


def test_probes_and_neighbors_replace_the_accuracy_of_the_linear_classifier():
    text = summary.format_results(Config().replace(model_dir="runs/x"), RESULTS | PROBES)
    rows = re.findall(r"^  (\w+ \w+) +([\d.]+)%", text, re.MULTILINE)
    names = ["raw pixels", "untrained encoder", "pretrained encoder"]
    shares = ["10.0", "20.0", "80.0", "12.0", "14.0", "65.0"]
    assert rows == list(zip(names * 2, shares, strict=True))
    assert "Nearest 7 of 10,000 training images of the same class:" in text
    assert "trained during pretraining" not in text


def test_after_fine_tuning_the_classifier_counts_and_the_encoder_is_called_fine_tuned():
    config = Config().replace(train_mode="finetune", model_dir="runs/x")
    text = summary.format_results(config, RESULTS | PROBES)
    assert "top-1 25.0%" in text
    assert "fine-tuned encoder   80.0%" in text and "pretrained" not in text


# --- Commands to type next.


@pytest.mark.parametrize("name", ["run", "my run", "run(1)", "it's", 'a"$HOME"b', "run/"])
def test_the_commands_to_type_next_parse(tmp_path, name):
    model_dir = os.path.join(tmp_path, name)
    os.makedirs(model_dir)
    config = flags.parse(
        [
            "run.py",
            "--gin_file=demo",
            "--mode=train_then_eval",
            f"--model_dir={model_dir}",
        ]
    ).config
    with open(os.path.join(model_dir, "config.gin"), "w") as file:
        file.write(saved_settings.to_gin(config))
    look, probe, finetune = commands(summary.format_results(config, RESULTS))
    assert look == ["tensorboard", f"--logdir={model_dir}"]
    assert probe[:2] == finetune[:2] == ["python", "run.py"]
    parsed = flags.parse(probe[1:]).config
    assert parsed.runtime.mode == "probe"
    assert parsed.data == config.data and parsed.model == config.model
    beside = model_dir.rstrip("/")
    assert parsed.runtime.model_dir == f"{beside}_probe"
    parsed = flags.parse(finetune[1:]).config
    assert parsed.training.train_mode == "finetune" and parsed.runtime.mode == "train_then_eval"
    assert parsed.data == config.data
    assert parsed.training.checkpoint == model_dir
    assert parsed.runtime.model_dir == f"{beside}_finetuned"
    assert parsed.model.width_multiplier == config.model.width_multiplier


def test_a_run_that_is_not_evaluated_is_given_no_command_that_evaluates():
    config = Config().replace(mode="train", model_dir="runs/x")
    look, finetune = commands(summary.format_results(config, RESULTS))
    assert "--mode=train" in finetune and "--train_mode=finetune" in finetune


@pytest.mark.parametrize(
    "settings",
    [
        dict(unlabelled=True),
        dict(lineareval_while_pretraining=False),
    ],
)
def test_without_labels_there_is_no_command_that_needs_them(tmp_path, settings):
    pictures = tmp_path / "my pictures"
    pictures.mkdir()
    config = Config().replace(
        dataset="folder", data_dir=str(pictures), model_dir=f"{tmp_path}/x", **settings
    )
    look, predict = commands(summary.format_results(config, RESULTS))
    parsed = flags.parse(predict[1:]).config
    assert parsed.runtime.mode == "predict"
    assert parsed.training.checkpoint == f"{tmp_path}/x"
    assert parsed.predict.images == str(pictures)
    assert parsed.predict.output == f"{tmp_path}/x_embeddings.npy"


def test_without_labels_and_without_a_folder_there_are_the_curves():
    config = Config().replace(lineareval_while_pretraining=False, model_dir="runs/x")
    assert commands(summary.format_results(config, RESULTS)) == [["tensorboard", "--logdir=runs/x"]]


@pytest.mark.parametrize(
    "model_dir, config_gin, finetuned",
    [
        ("gs://bucket/run/", "gs://bucket/run/config.gin", "gs://bucket/run_finetuned"),
        ("gs://bucket", "gs://bucket/config.gin", "gs://bucket/finetuned"),
    ],
)
def test_commands_of_a_run_in_a_bucket(model_dir, config_gin, finetuned):
    config = Config().replace(model_dir=model_dir)
    *_, words = commands(summary.format_results(config, RESULTS))
    assert f"--gin_file={config_gin}" in words and f"--model_dir={finetuned}" in words


def test_commands_start_the_way_the_run_was_started(tmp_path, monkeypatch):
    """By name if it is on PATH, otherwise by path: the environment of make demo is not on PATH."""
    folder = tmp_path / "it is/bin"
    folder.mkdir(parents=True)
    for name in ("python3.99", "tf-simclr", "tensorboard"):
        (folder / name).touch(0o755)
    python, console = str(folder / "python3.99"), str(folder / "tf-simclr")
    assert summary.program_words("run.py", python) == (python, "run.py")
    monkeypatch.chdir(tmp_path)
    assert summary.program_words("run.py", python) == ("it is/bin/python3.99", "run.py")
    program = summary.program_words(console, python)
    assert program == ("it is/bin/tf-simclr",)
    text = summary.format_results(Config().replace(model_dir="x"), RESULTS, program=program)
    look, finetune = commands(text)
    assert look == ["it is/bin/tensorboard", "--logdir=x"]
    assert finetune[0] == "it is/bin/tf-simclr" and finetune[1].startswith("--")
    monkeypatch.setenv("PATH", str(folder))
    assert summary.program_words("run.py", python) == ("python3.99", "run.py")
    assert summary.program_words(console, python) == ("tf-simclr",)
