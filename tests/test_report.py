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


def test_says_which_checkpoint_was_best():
    best = {"best_step": 3, "best_top_1": 0.5, "best_saved_model": "runs/x/saved_model_best/3"}
    config = Config().replace(train_mode="finetune", model_dir="runs/x")
    text = report.format_results(config, RESULTS | best)
    assert "Best: step 3, top-1 50.0%, in runs/x/best and runs/x/saved_model_best/3\n" in text


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
