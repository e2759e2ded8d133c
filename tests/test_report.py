"""The lines that end a run."""

import re
import shlex

from tf_simclr import flags, report
from tf_simclr.config import Config

RESULTS = {
    "step": 7, "checkpoint": "runs/x/ckpt-7", "saved_model": "runs/x/saved_model/7",
    "eval/label_top_1_accuracy": 0.25, "eval/label_top_5_accuracy": 0.75,
}  # fmt: skip


def test_says_how_good_and_where():
    text = report.format_results(
        Config().replace(train_mode="finetune", model_dir="runs/x"), RESULTS
    )
    for part in ("top-1 25.0%", "top-5 75.0%", "runs/x/ckpt-7", "runs/x/saved_model/7"):
        assert part in text
    assert "fine-tune" not in text


def test_an_accuracy_of_a_part_of_the_split_says_so():
    config = Config().replace(train_mode="finetune", model_dir="runs/x", eval_split="test")
    line = "Classifier on {}imagenet2012 test: top-1 25.0%"
    assert line.format("") in report.format_results(config, RESULTS)
    text = report.format_results(config, RESULTS | {"evaluated": (256, 10_000)})
    assert line.format("256 of 10000 images of ") in text


def test_says_which_checkpoint_was_best():
    best = {"best_step": 3, "best_top_1": 0.5, "best_saved_model": "runs/x/saved_model_best/3"}
    config = Config().replace(train_mode="finetune", model_dir="runs/x")
    text = report.format_results(config, RESULTS | best)
    assert "Best: step 3, top-1 50.0%, in runs/x/best and runs/x/saved_model_best/3\n" in text


def test_a_probe_is_a_table():
    accuracies = {"top_1": 0.5, "top_5": 0.75, "mean_per_class": 0.4}
    found = {"logistic": accuracies | {"l2": 0.0316}, "knn_200": accuracies | {"top_1": 0.25}}
    results = {
        "checkpoint": "runs/x/ckpt-7", "dataset": "oxford_flowers102", "path": "runs/p/result.json",
        "examples": {"train": 90, "test": 10}, "metric": "mean_per_class",
        "encoders": {"pretrained": found, "raw_pixels": found},
    }  # fmt: skip
    text = report.format_results(Config().replace(mode="probe", model_dir="runs/p"), results)
    rows = [re.split(r"  +", line.strip()) for line in text.splitlines() if line.startswith("  ")]
    assert rows == [
        ["features", "classifier", "top-1", "top-5", "per class"],
        *(row for name in ("pretrained", "raw pixels") for row in (
            [name, "logistic, l2 0.032", "50.00", "75.00", "40.00"],
            [name, "nearest neighbours, 200", "25.00", "75.00", "40.00"],
        )),
    ]  # fmt: skip
    assert "The literature gives per class for oxford_flowers102." in text
    assert "runs/p/result.json" in text and "90 training and 10 test images" in text


def test_top_5_is_left_out_where_it_was_not_computed():
    """Of fewer than five classes it would be 100% whatever the model says."""
    results = {k: v for k, v in RESULTS.items() if "top_5" not in k}
    config = Config().replace(train_mode="finetune", model_dir="runs/x")
    text = report.format_results(config, results)
    assert "top-1 25.0%\n" in text and "top-5" not in text
    accuracies = {"top_1": 0.5, "mean_per_class": 0.4}
    results = {
        "checkpoint": "runs/x/ckpt-7", "dataset": "folder", "path": "runs/p/result.json",
        "examples": {"train": 90, "test": 10}, "metric": "top_1",
        "encoders": {"pretrained": {"knn_20": accuracies}},
    }  # fmt: skip
    text = report.format_results(Config().replace(mode="probe", model_dir="runs/p"), results)
    assert "top-5" not in text and "50.00       40.00" in text


def test_predictions_are_counted():
    config = Config().replace(mode="predict", images="x", model_dir="y")
    results = {"path": "p.csv", "written": 7, "left_out": 2}
    assert report.format_results(config, results) == "p.csv: 7 pictures, 2 left out"


def test_probes_take_the_place_of_the_classifier_on_the_side():
    probes = {"probe/raw_pixels": 0.1, "probe/untrained": 0.2, "probe/pretrained": 0.6}
    text = report.format_results(Config().replace(model_dir="runs/x"), RESULTS | probes)
    rows = dict(re.findall(r"^  (\w+ \w+) +([\d.]+)%", text, re.MULTILINE))
    assert rows == {"raw pixels": "10.0", "untrained encoder": "20.0", "pretrained encoder": "60.0"}
    assert "on the side" not in text


def test_after_fine_tuning_the_classifier_counts_and_the_encoder_is_called_fine_tuned():
    probes = {"probe/raw_pixels": 0.1, "probe/untrained": 0.2, "probe/pretrained": 0.6}
    config = Config().replace(train_mode="finetune", model_dir="runs/x")
    text = report.format_results(config, RESULTS | probes)
    assert "top-1 25.0%" in text
    assert "fine-tuned encoder   60.0%" in text and "pretrained" not in text


def test_the_command_to_type_next_is_one_that_parses(tmp_path):
    model_dir = tmp_path / "run"
    model_dir.mkdir()
    config = flags.parse(["run.py", "--gin_file=demo", f"--model_dir={model_dir}"]).config
    (model_dir / "config.gin").write_text(flags.to_gin(config))
    text = report.format_results(config, RESULTS)
    command = text[text.index("python run.py") :].replace("\\\n", " ")
    parsed = flags.parse(shlex.split(command)[1:]).config
    assert parsed.training.train_mode == "finetune"
    assert parsed.training.checkpoint == str(model_dir)
    assert parsed.runtime.model_dir == f"{model_dir}_finetuned"
    assert parsed.model.width_multiplier == config.model.width_multiplier
