"""The length of a run, computed from its settings and its data before anything starts."""

import dataclasses
import math
from typing import Any

from tf_simclr.config import Config, settings
from tf_simclr.data.sources.protocol import Source
from tf_simclr.errors import ConfigError
from tf_simclr.optim import schedule

# Images that are trained on for each image that is measured, at the automatic interval. Three views
# forward then cost 1% of two views forward and backward, which cost as much as six views forward.
_TRAINED_PER_IMAGE = 50
_MIN_MONITOR_IMAGES = 64  # fewer would say nothing


@dataclasses.dataclass(frozen=True)
class Plan:
    """The length of a run.

    Attributes:
      num_train: number of examples in the training split.
      num_eval: number of examples in the evaluation split; 0 if nothing is evaluated.
      total_steps: number of training steps.
      checkpoint_steps: steps between checkpoints.
      eval_batches: batches of one evaluation.
      eval_every_steps: steps between evaluations during training; 0 for none.
      monitor_split: split whose images the run monitors; "" for none.
      monitor_images: number of images that it monitors.
      monitor_every_steps: steps between measurements; 0 for none.
    """

    num_train: int
    num_eval: int
    total_steps: int
    checkpoint_steps: int
    eval_batches: int
    eval_every_steps: int = 0
    monitor_split: str = ""
    monitor_images: int = 0
    monitor_every_steps: int = 0

    def num_evaluated_if_partial(self, eval_batch_size: int) -> int | None:
        """Returns the number of examples evaluated if that is less than the split; else None."""
        count = self.eval_batches * eval_batch_size
        return count if count < self.num_eval else None


def make_plan(config: Config, source: Source, *, evaluates: bool) -> Plan:
    """Counts examples and steps.

    Args:
      config: checked settings.
      source: the data set.
      evaluates: whether the run will evaluate on eval_split.

    Raises:
      ConfigError: a split does not exist, or it has fewer examples than a batch.
    """
    training = config.training
    num_train = source.num_examples(config.data.train_split, flag="train_split")
    num_eval = source.num_examples(config.data.eval_split, flag="eval_split") if evaluates else 0
    batch = training.train_batch_size
    if batch > num_train:
        raise ConfigError(
            f"train_batch_size must be at most {num_train}, the number of examples in "
            f"{source.name}'s split {config.data.train_split}, got {batch}; lower it or choose a "
            "larger --train_split"
        )
    total_steps = schedule.total_steps(
        train_steps=training.train_steps,
        train_epochs=training.train_epochs,
        num_examples=num_train,
        global_batch_size=batch,
    )
    epoch_steps = max(1, round(num_train / batch))
    eval_every_steps = 0
    if training.eval_every_epochs:
        eval_every_steps = max(1, round(training.eval_every_epochs * num_train / batch))
    eval_batches = math.ceil(num_eval / training.eval_batch_size)
    if training.eval_steps:
        eval_batches = min(eval_batches, training.eval_steps)
    return Plan(
        num_train=num_train,
        num_eval=num_eval,
        total_steps=total_steps,
        checkpoint_steps=training.checkpoint_steps or training.checkpoint_epochs * epoch_steps,
        eval_batches=eval_batches,
        eval_every_steps=eval_every_steps,
        **_monitoring(config, source, num_train=num_train, total_steps=total_steps),
    )


def _monitoring(
    config: Config, source: Source, *, num_train: int, total_steps: int
) -> dict[str, Any]:
    """Chooses split, images and interval of the monitor; {} if nothing is monitored.

    The automatic interval bounds the cost (_TRAINED_PER_IMAGE). The measurements are spread over
    the run so that the last one is at its end.
    """
    training = config.training
    if not training.monitor_images or training.train_mode != "pretrain":
        return {}
    split, split_size = _monitored_split(config, source, num_train)
    images, batch = min(training.monitor_images, split_size), training.train_batch_size
    if training.monitor_every_epochs:
        every_steps = max(1, round(training.monitor_every_epochs * num_train / batch))
    else:
        every_steps = max(
            math.ceil(num_train / batch), math.ceil(_TRAINED_PER_IMAGE * images / batch)
        )
        affordable = total_steps * batch // _TRAINED_PER_IMAGE
        if affordable < images:
            images = min(images, max(_MIN_MONITOR_IMAGES, affordable))
        every_steps = math.ceil(total_steps / max(1, total_steps // every_steps))
    return {
        "monitor_split": split,
        "monitor_images": images,
        "monitor_every_steps": every_steps,
    }


def _monitored_split(config: Config, source: Source, num_train: int) -> tuple[str, int]:
    """Returns eval_split if the data set has it, otherwise train_split, and its size."""
    try:
        return config.data.eval_split, source.num_examples(config.data.eval_split)
    except ConfigError:
        return config.data.train_split, num_train


def make_schedule(config: Config, plan: Plan) -> schedule.WarmUpAndCosineDecay:
    """Makes the learning-rate schedule of a run: a function from step to learning rate."""
    optimizer, batch = config.optimizer, config.training.train_batch_size
    return schedule.WarmUpAndCosineDecay(
        schedule.scaled_learning_rate(
            optimizer.learning_rate, optimizer.learning_rate_scaling, batch
        ),
        warmup_steps=schedule.warmup_steps(optimizer.warmup_epochs, plan.num_train, batch),
        total_steps=plan.total_steps,
    )


def previous_settings_and_plan(
    saved: dict[str, Any], now: Config, source: Source
) -> tuple[Config, Plan | None]:
    """Returns the settings of the previous start, and their plan if it can be computed.

    Args:
      saved: {name: value}, the settings that the run has saved.
      now: current settings.
      source: the data set of `now`.

    Returns:
      The previous settings, and their plan. The plan is None if they name other data or are no
      longer valid.
    """
    before = now.replace(**saved)
    names = ("dataset", "unlabelled", "label_fraction", "label_seed")
    same_data = all(getattr(before.data, name) == getattr(now.data, name) for name in names)
    wrong = [n for n, v in saved.items() if n != "data_dir" and settings()[n].complaint(v)]
    if wrong or not same_data:
        return before, None
    try:
        return before, make_plan(before, source, evaluates=False)
    except ConfigError:
        return before, None
