"""MODEL_CARD.md holds what is known, and no Markdown from somebody else's files."""

import json
import re

import pytest

from tf_simclr.checkpoints import about_file, model_card
from tf_simclr.checkpoints.model_card import Card
from tf_simclr.config import Config
from tf_simclr.errors import ConfigError

CONFIG = Config().replace(
    dataset="cifar10", data_dir="/home/me/data", image_size=32, temperature=0.5, eval_split="test"
)


def card(**changes) -> Card:
    values = dict(
        network="ResNet-50 1x",
        weights="runs/x/ckpt-7",
        step=7,
        recipe=CONFIG,
        results={"eval/label_top_1_accuracy": 0.875},
        evaluation=CONFIG,
        about=about_file.content(CONFIG, ["cat", "dog"]),
        outputs={"final_avg_pool": 2048, "logits_sup": 2},
        loading="load it",
    )
    return Card(**values | changes)


def test_a_card_says_how_the_weights_were_made_and_how_good_they_are():
    text = model_card.text(card())
    assert text.startswith("# ResNet-50 1x\n")
    assert "on the data set `cifar10`, split `train`, up to step 7." in text
    assert "    --temperature=0.5\n" in text and "--learning_rate" not in text
    assert "/home/me" not in text  # of no use to others
    assert "| `cifar10`, split `test` | |" in text
    assert "| supervised head, top-1 | 87.50% |" in text
    assert "Take the whole image, resize it to 32 x 32 pixels" in text
    assert "| final_avg_pool | 2048 |" in text and "load it" in text
    assert "names of the 2 classes" in text


def test_what_is_unknown_is_not_claimed():
    about = about_file.content(CONFIG, None, source="a TF1 checkpoint of the official code")
    text = model_card.text(
        card(recipe=None, results={}, about=about, outputs={"final_avg_pool": 8}, notes=["Hear."])
    )
    text = " ".join(text.split())
    assert "The training is not recorded. The weights were converted from a TF1 checkpoint" in text
    assert "official code. Hear." in text and "No evaluation of these weights is recorded." in text
    assert "temperature" not in text and "logits" not in text and "classes" not in text


def test_a_partial_evaluation_is_called_one():
    text = model_card.text(card(evaluation=CONFIG.replace(eval_steps=3, eval_batch_size=100)))
    assert "| supervised head, top-1 (at most the first 300 images) | 87.50% |" in text


def test_larger_images_are_cropped_and_16_bits_do_not_matter():
    about = about_file.content(CONFIG.replace(image_size=224), None)
    assert "side is 0.875 of the" in model_card.text(card(about=about))


def test_text_of_somebody_elses_files_is_one_line_without_markdown():
    recipe = CONFIG.replace(dataset="a](b)\n# <b>`x`")
    text = model_card.text(card(weights="`x`\n# no", recipe=recipe))
    assert "\n# no" not in text and "\n# <b>" not in text
    # In a code span and in an indented block, nothing else has a meaning.
    outside = re.sub(r"`[^`]*`|\n    [^\n]*", "", text)
    assert "<b>" not in outside and "](" not in outside and "`" not in outside
    assert [line for line in text.splitlines() if line.startswith("# ")] == ["# ResNet-50 1x"]


def test_only_the_results_of_the_exported_step_count(tmp_path):
    def save(folder, **content):
        folder.mkdir(exist_ok=True)
        (folder / "result.json").write_text(json.dumps(content))

    accuracy = "eval/label_top_1_accuracy"
    save(tmp_path, global_step=7, **{accuracy: 0.5, "eval/label_top_5_accuracy": "high", "x": 1})
    assert model_card.results_of(str(tmp_path), 7) == {accuracy: 0.5}
    for other in (8, None):
        assert model_card.results_of(str(tmp_path), other) == {}
    save(tmp_path / "best", global_step=8, **{accuracy: 0.75})
    assert model_card.results_of(str(tmp_path), 8) == {accuracy: 0.75}
    assert model_card.results_of(str(tmp_path / "absent"), 8) == {}


def test_a_damaged_result_is_an_error_of_one_line(tmp_path):
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(ConfigError, match="result.json") as error:
        model_card.results_of(str(tmp_path), 7)
    assert "\n" not in str(error.value)
