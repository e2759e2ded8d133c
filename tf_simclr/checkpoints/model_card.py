"""Writes MODEL_CARD.md: what an exported model is, how it was trained, and how to use it.

A card holds only what is known. It says so if the training is not recorded.
"""

import os
import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tf_simclr import __version__, files
from tf_simclr.checkpoints import result_files
from tf_simclr.config import Config, saved_settings, settings
from tf_simclr.errors import one_line
from tf_simclr.models.simclr import SimCLR

NAME = "MODEL_CARD.md"
# Where the data was on the machine that trained; of no use to a reader of the card.
_LEFT_OUT = ("data_dir",)
_TITLES = {
    "eval/label_top_1_accuracy": "supervised head, top-1",
    "eval/label_top_5_accuracy": "supervised head, top-5",
    "probe/pretrained": "linear probe on the features, top-1",
    "neighbours/pretrained": "nearest training images of the same class",
}


class Card(NamedTuple):
    """The content of a card.

    Attributes:
      network: what the network is, in words (`recognition.describe`).
      weights: the path that the weights come from.
      step: the training step of the weights; None if unknown.
      recipe: the settings of the run that has trained the weights; None if they are not recorded.
      results: {metric: value}, the evaluation of these weights (`results_of`).
      evaluation: the settings of that evaluation; None if they are not recorded.
      about: the content of about.json (`about_file.content`).
      outputs: {endpoint: width}.
      loading: Markdown with code that loads the export.
      check: how far the export's outputs are from the model's; "" if they were not compared.
      notes: sentences about the file that the weights come from (`Stored.notes`).
    """

    network: str
    weights: str
    step: int | None
    recipe: Config | None
    results: Mapping[str, float]
    evaluation: Config | None
    about: Mapping[str, Any]
    outputs: Mapping[str, int]
    loading: str
    check: str = ""
    notes: Sequence[str] = ()


def write(directory: str, card: Card) -> None:
    """Writes the card into a directory."""
    files.write_text(os.path.join(directory, NAME), text(card))


def text(card: Card) -> str:
    """Returns the card as Markdown."""
    sections = {
        "Training": _training(card),
        "Accuracy": _accuracy(card),
        "Preparing images": _preparation(card.about),
        "Outputs": _outputs(card),
        "Loading": card.loading.strip(),
        "License": _paragraph(
            "Not stated. Fill in the license of these weights before you publish them; it depends "
            "on the data and on the weights that training started from."
        ),
    }
    lines = [f"# {_plain(card.network)}", ""]
    lines.append(f"Exported by tf_simclr {__version__} from {_code(card.weights)}.")
    for title, body in sections.items():
        lines += ["", f"## {title}", "", body]
    return "\n".join(lines) + "\n"


def _plain(value: object) -> str:
    """Formats text from a file in one line that has no Markdown in it."""
    return re.sub(r"[`<>\[\]|#*]", "?", one_line(str(value)))


def _code(value: object) -> str:
    """Formats a value from a file as a code span, in which Markdown has no meaning."""
    return "`" + re.sub("[`|]", "?", one_line(str(value))) + "`"


def _training(card: Card) -> str:
    notes = "".join(f" {_plain(note)}" for note in card.notes)
    if card.recipe is None:
        source = card.about.get("source")
        origin = f" The weights were converted from {_plain(source)}." if source else ""
        return _paragraph(f"The training is not recorded.{origin}{notes}")
    data, training = card.recipe.data, card.recipe.training
    step = f", up to step {card.step}" if card.step is not None else ""
    flags = [
        f"    --{name}={shlex.quote(one_line(str(value)))}"
        for name, value in saved_settings.saved_values(card.recipe).items()
        if value != settings()[name].default and name not in _LEFT_OUT
    ]
    return "\n".join(
        [
            f"Trained with train_mode={training.train_mode} on the data set {_code(data.dataset)}, "
            f"split {_code(data.train_split)}{step}.{notes}",
            "",
            "The settings that differ from the defaults of run.py:",
            "",
            *flags,
        ]
    )


def _accuracy(card: Card) -> str:
    rows = [
        f"| {title}{_part(card, key)} | {100 * card.results[key]:.2f}% |"
        for key, title in _TITLES.items()
        if key in card.results
    ]
    if not rows:
        return "No evaluation of these weights is recorded."
    images = "evaluation split, as recorded in result.json"
    if card.evaluation:
        data = card.evaluation.data
        images = f"{_code(data.dataset)}, split {_code(data.eval_split)}"
    return "\n".join([f"| {images} | |", "|---|---|", *rows])


def _part(card: Card, key: str) -> str:
    """Says that eval_steps has limited an evaluation, which does not limit the probes."""
    settings_used = card.evaluation or card.recipe
    if not settings_used or not settings_used.training.eval_steps or not key.startswith("eval/"):
        return ""
    training = settings_used.training
    return f" (at most the first {training.eval_steps * training.eval_batch_size} images)"


def _preparation(about: Mapping[str, Any]) -> str:
    preparation = about["preparation"]
    crop = preparation["crop_proportion"]
    size = preparation["image_size"]
    part = (
        f"the central square whose side is {crop} of the shorter side"
        if crop
        else "the whole image"
    )
    normalization = about["network"].get("input_normalization", "none")
    inside = (
        "There is no normalization by a mean and a standard deviation."
        if normalization == "none"
        else "The model itself subtracts the mean and divides by the standard deviation of "
        f"{_plain(normalization)}."
    )
    names = about.get("class_names")
    classes = f" and the names of the {len(names)} classes" if names else ""
    return _paragraph(
        "Rotate the image as its EXIF orientation says, put a transparent one on white, and "
        f"convert it to RGB. Take {part}, resize it to {size} x {size} pixels with bicubic weights "
        "and without antialiasing, scale it from 0 .. 255 to [0, 1], and clip it to that range. "
        f"{inside} The file about.json (assets/about.json in a SavedModel) has these values"
        f"{classes} for programs."
    )


def _paragraph(sentences: str) -> str:
    return textwrap.fill(sentences, 100)


def _outputs(card: Card) -> str:
    rows = [f"| {name} | {width} |" for name, width in card.outputs.items()]
    table = "\n".join(["| endpoint | width |", "|---|---|", *rows])
    meaning = "final_avg_pool is the embedding of an image: the backbone's features."
    if "logits_sup" in card.outputs:
        meaning += " logits_sup are the supervised head's class logits."
    check = f"\n\n{_paragraph(card.check)}" if card.check else ""
    return f"{table}\n\n{_paragraph(meaning)}{check}"


def results_of(model_dir: str, step: int | None) -> dict[str, float]:
    """Returns the evaluation of a step in a model_dir, {metric: share}; {} if there is none.

    The files are untrusted: only shares in [0, 1] under known names count.

    Raises:
      ConfigError: a result file is no JSON object.
    """
    results: dict[str, Any] = {}
    for folder in (model_dir, os.path.join(model_dir, result_files.BEST)):
        path = os.path.join(folder, "result.json")
        if files.is_file(path):
            content = files.read_json_object(path)
            if step is not None and content.get("global_step") == step:
                results |= content
    return accuracies(results)


def accuracies(results: Mapping[str, Any]) -> dict[str, float]:
    """Returns the results that a card holds: shares in [0, 1]."""
    return {
        name: float(value)
        for name, value in results.items()
        if name in _TITLES and type(value) in (int, float) and 0 <= value <= 1
    }


def outputs_of(model: SimCLR) -> dict[str, int]:
    """Returns {endpoint: width} of the endpoints that users need."""
    widths = {"final_avg_pool": model.stages[-1].output_shape[-1], **model.output_widths()}
    if not model.projection_layers:
        del widths["proj_head_output"]  # it would be final_avg_pool again
    return widths
