"""The rules between settings, as a table, and the check of a whole Config."""

from collections.abc import Callable
from typing import NamedTuple

from tf_simclr.config.config import Config
from tf_simclr.config.sections import settings
from tf_simclr.config.setting import DIRECTORY
from tf_simclr.errors import ConfigError


class Rule(NamedTuple):
    """What one setting must be because of others.

    The error message reads "SETTING must be REQUIREMENT with CONTEXT, got VALUE: WAY_OUT". The
    documentation reads "Must be REQUIREMENT with WHEN." In both texts {name} stands for a setting:
    for its value in a message, for its name in the documentation.

    Attributes:
      setting: name of the setting to which the rule applies.
      requirement: what it must be.
      when: with which values of other settings.
      is_broken: returns whether a Config breaks the rule.
      way_out: what the user can do.
      context: the settings that break the rule and their values; `when` if it is empty.
    """

    setting: str
    requirement: str
    when: str
    is_broken: Callable[[Config], bool]
    way_out: str
    context: str = ""

    def message(self, config: Config) -> str:
        """Returns the error message for a Config that breaks the rule."""
        values = config.to_dict()
        text = f"must be {self.requirement} with {self.context or self.when}".format_map(values)
        return f"{self.setting} {text}, got {values[self.setting]!r}: {self.way_out}"

    def sentence(self) -> str:
        """Returns the rule as a sentence of the documentation."""
        names = {name: name for name in settings()}
        return f"Must be {self.requirement} with {self.when}.".format_map(names)


def _is_tfds(config: Config) -> bool:
    return config.data.dataset not in ("folder", "shapes")


def _selects_missing_layer(config: Config, projection_mode: str, last_layer: int) -> bool:
    """Returns whether ft_proj_selector is beyond the endpoints of this kind of projection head.

    Endpoint 0 is the head's input. The output of each layer follows.
    """
    model = config.model
    is_valid = -1 <= model.ft_proj_selector <= last_layer
    return model.proj_head_mode == projection_mode and not is_valid


def _is_mode(config: Config, *modes: str) -> bool:
    return config.runtime.mode in modes


def _pretrains(config: Config) -> bool:
    return config.training.train_mode == "pretrain"


def _has_workers(config: Config) -> bool:
    return config.runtime.strategy == "multi_worker"


_LAYER = "give the number of a layer, or -1 for the last"
_LENGTH = "give the length of the training, in epochs or in steps"

# The first broken rule is the one reported.
RULES = (
    Rule(
        "fine_tune_after_block",
        "-1",
        "train_mode=pretrain",
        lambda c: _pretrains(c) and c.model.fine_tune_after_block != -1,
        "fine-tune with --train_mode=finetune",
    ),
    Rule(
        "train_batch_size",
        "at least 2",
        "train_mode=pretrain",
        lambda c: _pretrains(c) and c.training.train_batch_size < 2,
        "a batch of one has no negatives",
    ),
    Rule(
        "unlabelled",
        "False",
        "any dataset but folder",
        lambda c: c.data.unlabelled and c.data.dataset != "folder",
        "it is for --dataset=folder",
        context="dataset={dataset}",
    ),
    Rule(
        "image_key",
        "None",
        "dataset=folder or dataset=shapes",
        lambda c: bool(c.data.image_key) and not _is_tfds(c),
        "it names a feature of a TFDS data set",
        context="dataset={dataset}",
    ),
    Rule(
        "label_key",
        "None",
        "dataset=folder or dataset=shapes",
        lambda c: bool(c.data.label_key) and not _is_tfds(c),
        "it names a feature of a TFDS data set",
        context="dataset={dataset}",
    ),
    Rule(
        "data_service",
        "None",
        "dataset=folder",
        lambda c: c.data.dataset == "folder" and bool(c.runtime.data_service),
        "images in a folder are decoded in the training process; leave out --data_service, or "
        "convert the images to a TFDS data set",
    ),
    Rule(
        "teacher",
        "given",
        "train_mode=distill",
        lambda c: c.training.train_mode == "distill" and not c.distill.teacher,
        "name the SavedModel of a fine-tuned run, e.g. --teacher=runs/finetuned",
    ),
    Rule(
        "teacher",
        "None",
        "any other train_mode",
        lambda c: c.training.train_mode != "distill" and bool(c.distill.teacher),
        "distill with --train_mode=distill",
        context="train_mode={train_mode}",
    ),
    Rule(
        "label_fraction",
        "1",
        "train_mode=pretrain",
        lambda c: _pretrains(c) and c.data.label_fraction < 1,
        "pretraining uses no labels; to use fewer images, give --train_split='train[:10%]'",
    ),
    Rule(
        "from_scratch",
        "False",
        "train_mode=pretrain",
        lambda c: _pretrains(c) and c.training.from_scratch,
        "it is for fine-tuning without a checkpoint",
    ),
    Rule(
        "from_scratch",
        "False",
        "a checkpoint",
        lambda c: c.training.from_scratch and bool(c.training.checkpoint),
        "it is for fine-tuning without a checkpoint",
        context="checkpoint={checkpoint}",
    ),
    Rule(
        "ft_proj_selector",
        "between -1 and 0",
        "proj_head_mode=none",
        lambda c: _selects_missing_layer(c, "none", 0),
        _LAYER,
    ),
    Rule(
        "ft_proj_selector",
        "between -1 and 1",
        "proj_head_mode=linear",
        lambda c: _selects_missing_layer(c, "linear", 1),
        _LAYER,
    ),
    Rule(
        "ft_proj_selector",
        "between -1 and {num_proj_layers}",
        "proj_head_mode=nonlinear",
        lambda c: _selects_missing_layer(c, "nonlinear", c.model.num_proj_layers),
        _LAYER,
    ),
    Rule(
        "train_epochs",
        "at least 1",
        "train_steps=0",
        lambda c: not c.training.train_epochs and not c.training.train_steps,
        _LENGTH,
    ),
    Rule(
        "checkpoint_epochs",
        "at least 1",
        "checkpoint_steps=0",
        lambda c: not c.training.checkpoint_epochs and not c.training.checkpoint_steps,
        "nothing would be saved",
    ),
    Rule(
        "strategy",
        "auto",
        "mode=eval, mode=probe or mode=predict",
        lambda c: _has_workers(c) and _is_mode(c, "eval", "probe", "predict"),
        "a single process reads the checkpoints of all workers",
        context="mode={mode}",
    ),
    Rule(
        "strategy",
        "auto",
        "cpu_replicas above 1",
        lambda c: _has_workers(c) and c.runtime.cpu_replicas > 1,
        "each worker uses its GPUs, or its CPU as one replica",
        context="cpu_replicas={cpu_replicas}",
    ),
    Rule(
        "strategy",
        "auto",
        "use_tpu=True",
        lambda c: _has_workers(c) and c.runtime.use_tpu is True,
        "each worker uses its GPUs, or its CPU as one replica",
    ),
    Rule(
        "images",
        "given",
        "mode=predict",
        lambda c: _is_mode(c, "predict") and not c.predict.images,
        "name a folder of images, e.g. --images=pictures",
    ),
    Rule(
        "checkpoint",
        "given",
        "mode=predict and no model_dir",
        lambda c: _is_mode(c, "predict") and not (c.training.checkpoint or c.runtime.model_dir),
        "name a SavedModel, a checkpoint or the model_dir of a run",
        context="mode=predict",
    ),
    Rule(
        "images",
        "None",
        "any other mode",
        lambda c: bool(c.predict.images) and not _is_mode(c, "predict"),
        "it is for --mode=predict",
        context="mode={mode}",
    ),
    Rule(
        "model_dir",
        "given",
        "mode=eval or mode=probe",
        lambda c: _is_mode(c, "eval", "probe") and not c.runtime.model_dir,
        "give the directory of the run, e.g. --model_dir=runs/first",
        context="mode={mode}",
    ),
    Rule(
        "lineareval_while_pretraining",
        "True",
        "mode=eval and train_mode=pretrain",
        lambda c: (
            _is_mode(c, "eval") and _pretrains(c) and not c.model.lineareval_while_pretraining
        ),
        "there is no supervised head to evaluate; train one with --train_mode=finetune",
    ),
)


def rules_of(name: str) -> list[Rule]:
    """Returns the rules that apply to a setting."""
    return [rule for rule in RULES if rule.setting == name]


def check_data_dir(config: Config) -> None:
    """Raises ConfigError if data_dir is not a directory."""
    value = config.data.data_dir
    if value is not None and not DIRECTORY.holds(value):
        raise ConfigError(f"data_dir must be {DIRECTORY.text}, got {value!r}")


def check(config: Config) -> None:
    """Checks each value by itself, then the rules between settings.

    Raises:
      ConfigError: names the setting, its value and what it must be.
    """
    for _, name, value in config.items():
        wrong = settings()[name].complaint(value)
        if wrong:
            raise ConfigError(f"{name} {wrong}")
    # If one worker stopped here, the others would wait for it. They check data_dir together.
    if config.runtime.strategy != "multi_worker":
        check_data_dir(config)
    for rule in RULES:
        if rule.is_broken(config):
            raise ConfigError(rule.message(config))
