"""A table of the rules that involve several settings, and the check of a Config."""

from types import SimpleNamespace

from tf_simclr.config.config import Config
from tf_simclr.config.rule import Rule
from tf_simclr.config.sections import settings
from tf_simclr.config.setting import DIRECTORY
from tf_simclr.errors import ConfigError

_TFDS_ONLY = "it names a feature of a TFDS data set"
_NO_CHECKPOINT = "it is for fine-tuning without a checkpoint"
_LAYER = "give the number of a layer, or -1 for the last"
_WORKER_DEVICES = "each worker uses its GPUs, or its CPU as one replica"


def _selects_layer(s: SimpleNamespace, num_layers: int) -> bool:
    """Returns whether ft_proj_selector is 0 (the head's input), a layer's number, or -1."""
    return -1 <= s.ft_proj_selector <= num_layers


def _is_measured_by(s: SimpleNamespace, prefix: str) -> bool:
    """Returns whether best_metric is given and begins with a prefix."""
    return bool(s.best_metric) and s.best_metric.startswith(prefix)


# The first broken rule is the one that is reported.
RULES = (
    Rule(
        "fine_tune_after_block must be -1 with train_mode=pretrain",
        lambda s: s.train_mode == "pretrain" and s.fine_tune_after_block != -1,
        "fine-tune with --train_mode=finetune",
    ),
    Rule(
        "train_batch_size must be at least 2 with train_mode=pretrain",
        lambda s: s.train_mode == "pretrain" and s.train_batch_size < 2,
        "a batch of one has no negatives",
    ),
    Rule(
        "unlabelled must be False with any dataset but folder",
        lambda s: s.dataset != "folder" and s.unlabelled,
        "it is for --dataset=folder",
        context="dataset={dataset}",
    ),
    Rule(
        "image_key must be unset with dataset=folder or dataset=shapes",
        lambda s: s.dataset in ("folder", "shapes") and s.image_key is not None,
        _TFDS_ONLY,
        context="dataset={dataset}",
    ),
    Rule(
        "label_key must be unset with dataset=folder or dataset=shapes",
        lambda s: s.dataset in ("folder", "shapes") and s.label_key is not None,
        _TFDS_ONLY,
        context="dataset={dataset}",
    ),
    Rule(
        "data_service must be unset with dataset=folder",
        lambda s: s.dataset == "folder" and s.data_service is not None,
        "images in a folder are decoded in the training process; unset --data_service, or "
        "convert the images to a TFDS data set",
    ),
    Rule(
        "teacher must be given with train_mode=distill",
        lambda s: s.train_mode == "distill" and not s.teacher,
        "give the SavedModel of a fine-tuned run, e.g. --teacher=runs/finetuned",
    ),
    Rule(
        "teacher must be unset with any other train_mode",
        lambda s: s.train_mode != "distill" and bool(s.teacher),
        "distill with --train_mode=distill",
        context="train_mode={train_mode}",
    ),
    Rule(
        "label_fraction must be 1 with train_mode=pretrain",
        lambda s: s.train_mode == "pretrain" and s.label_fraction < 1,
        "pretraining learns from all images; to use fewer, give --train_split='train[:10%]'",
    ),
    Rule(
        "from_scratch must be False with train_mode=pretrain",
        lambda s: s.train_mode == "pretrain" and s.from_scratch,
        _NO_CHECKPOINT,
    ),
    Rule(
        "from_scratch must be False with a checkpoint",
        lambda s: bool(s.checkpoint) and s.from_scratch,
        _NO_CHECKPOINT,
        context="checkpoint={checkpoint}",
    ),
    Rule(
        "best_metric must be a monitor/ metric with eval_every_epochs=0",
        lambda s: _is_measured_by(s, "eval/") and not s.eval_every_epochs,
        "evaluate during training, e.g. with --eval_every_epochs=1",
    ),
    Rule(
        "best_metric must be an eval/ metric with any train_mode but pretrain",
        lambda s: _is_measured_by(s, "monitor/") and s.train_mode != "pretrain",
        "only pretraining is monitored",
        context="train_mode={train_mode}",
    ),
    Rule(
        "best_metric must be an eval/ metric with monitor_images=0",
        lambda s: _is_measured_by(s, "monitor/") and not s.monitor_images,
        "monitor some images, e.g. --monitor_images=1024",
    ),
    Rule(
        "stop_after must be 0 with neither best_metric nor eval_every_epochs",
        lambda s: bool(s.stop_after) and not s.best_metric and not s.eval_every_epochs,
        "name a metric, e.g. --best_metric=monitor/knn_top_1",
    ),
    Rule(
        "ft_proj_selector must be between -1 and 0 with proj_head_mode=none",
        lambda s: s.proj_head_mode == "none" and not _selects_layer(s, 0),
        _LAYER,
    ),
    Rule(
        "ft_proj_selector must be between -1 and 1 with proj_head_mode=linear",
        lambda s: s.proj_head_mode == "linear" and not _selects_layer(s, 1),
        _LAYER,
    ),
    Rule(
        "ft_proj_selector must be between -1 and {num_proj_layers} with proj_head_mode=nonlinear",
        lambda s: s.proj_head_mode == "nonlinear" and not _selects_layer(s, s.num_proj_layers),
        _LAYER,
    ),
    Rule(
        "first_shortcut must be projection with resnet_depth above 34",
        lambda s: s.resnet_depth > 34 and s.first_shortcut != "projection",
        "only ResNet-18 and 34 have as many channels after their first block as before it",
        context="resnet_depth={resnet_depth}",
    ),
    Rule(
        "train_epochs must be at least 1 with train_steps=0",
        lambda s: s.train_steps == 0 and s.train_epochs == 0,
        "give the length of the training, in epochs or in steps",
    ),
    Rule(
        "checkpoint_epochs must be at least 1 with checkpoint_steps=0",
        lambda s: s.checkpoint_steps == 0 and s.checkpoint_epochs == 0,
        "otherwise nothing would be saved",
    ),
    Rule(
        "strategy must be auto with mode=eval, mode=probe or mode=predict",
        lambda s: s.mode in ("eval", "probe", "predict") and s.strategy == "multi_worker",
        "this mode runs on one machine, even for a run that several workers train",
        context="mode={mode}",
    ),
    Rule(
        "strategy must be auto with cpu_replicas above 1",
        lambda s: s.cpu_replicas > 1 and s.strategy == "multi_worker",
        _WORKER_DEVICES,
        context="cpu_replicas={cpu_replicas}",
    ),
    Rule(
        "strategy must be auto with use_tpu=True",
        lambda s: s.use_tpu is True and s.strategy == "multi_worker",
        _WORKER_DEVICES,
    ),
    Rule(
        "images must be given with mode=predict",
        lambda s: s.mode == "predict" and not s.images,
        "give a folder of images, e.g. --images=pictures",
    ),
    Rule(
        "checkpoint must be given with mode=predict and no model_dir",
        lambda s: s.mode == "predict" and not s.model_dir and not s.checkpoint,
        "give a SavedModel, a checkpoint or the model_dir of a run",
    ),
    Rule(
        "images must be unset with any other mode",
        lambda s: s.mode != "predict" and bool(s.images),
        "it is for --mode=predict",
        context="mode={mode}",
    ),
    Rule(
        "model_dir must be given with mode=eval or mode=probe",
        lambda s: s.mode in ("eval", "probe") and not s.model_dir,
        "give the directory of the run, e.g. --model_dir=runs/first",
        context="mode={mode}",
    ),
    Rule(
        "lineareval_while_pretraining must be True with mode=eval and train_mode=pretrain",
        lambda s: (
            s.mode == "eval" and s.train_mode == "pretrain" and not s.lineareval_while_pretraining
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
    """Checks each value on its own, then the rules that involve several settings.

    Raises:
      ConfigError: a value is wrong. The message names the setting, its value and a valid value.
    """
    for _, name, value in config.items():
        wrong = settings()[name].complaint(value)
        if wrong:
            raise ConfigError(f"{name} {wrong}")
    # If one worker stopped here, the remaining workers would wait for it forever. Workers check
    # data_dir together when they open the data set.
    if config.runtime.strategy != "multi_worker":
        check_data_dir(config)
    values = SimpleNamespace(**config.to_dict())
    for rule in RULES:
        if rule.is_broken(values):
            raise ConfigError(rule.message(config))
