"""Warnings at the start of a run about settings with surprising effects.

The functions compute lines of text from settings. Consistent settings give no warnings.
"""

from typing import Any

from tf_simclr.config import Config, settings
from tf_simclr.training.plan import Plan, make_schedule

MIN_BATCH_NORM_IMAGES = 8
# Saved settings that cannot change what a resumed run trains: they concern evaluation, files, speed
# and the starting weights.
_NON_TRAINING_SETTINGS = {
    "cache_dataset",
    "checkpoint",
    "checkpoint_epochs",
    "checkpoint_steps",
    "data_dir",
    "eval_batch_size",
    "eval_every_epochs",
    "eval_name",
    "eval_split",
    "eval_steps",
    "eval_timeout",
    "from_scratch",
    "keep_checkpoint_max",
    "keep_hub_module_max",
    "loss_block_rows",
    "monitor_every_epochs",
    "monitor_images",
    "probe_baselines",
    "probe_summary",
    "probe_validation_split",
    "strict_data",
    "train_summary_steps",
    "variable_schema",
    "zero_init_logits_layer",
}


def changed_settings(before: Config, now: Config) -> dict[str, tuple[Any, Any]]:
    """Returns {name: (old value, new value)} of the changed settings that affect training."""
    old, new = before.to_dict(), now.to_dict()
    ignored = set(_NON_TRAINING_SETTINGS)
    if old["train_steps"] and old["train_steps"] == new["train_steps"]:
        ignored.add("train_epochs")
    return {
        name: (old[name], new[name])
        for name, spec in settings().items()
        if spec.saved and name not in ignored and old[name] != new[name]
    }


def resume_note(
    before: tuple[Config, Plan | None], now: tuple[Config, Plan], *, step: int, examples: int
) -> str | None:
    """Describes what changes if a run resumes with different settings; None if nothing changes.

    Args:
      before: previous settings and their plan (`previous_settings_and_plan`).
      now: current settings and their plan.
      step: step at which the run resumes.
      examples: number of examples seen so far.
    """
    changed = changed_settings(before[0], now[0])
    if not changed:
        return None
    differences = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in changed.items())
    rates = f"{_rate(*now, step):.4g}"
    config_before, plan_before = before
    if plan_before:
        rate_before = _rate(config_before, plan_before, step)
        rates = f"{rate_before:.4g} by the old settings, {rates} now"
    return (
        f"Step {step} resumes with different settings: {differences}. Learning rate: {rates}. Seen "
        f"so far: {examples} images, {examples / now[1].num_train:.2f} epochs."
    )


def monitor_note(config: Config, plan: Plan) -> str:
    """Says which images the run monitors, and how often."""
    images = f"{plan.monitor_images} images of split {plan.monitor_split}"
    if plan.monitor_split != config.data.eval_split:
        images += f" (there is no split {config.data.eval_split})"
    return f"Monitors the embeddings of {images} every {plan.monitor_every_steps} steps."


def _rate(config: Config, plan: Plan, step: int) -> float:
    return float(make_schedule(config, plan)(step))


def start_notes(config: Config, plan: Plan, *, step: int = 0, replicas: int = 1) -> list[str]:
    """Returns one warning per line about settings that do not suit the run.

    Such settings exceed the run's length, evaluate only part of a split, or harm batch
    normalization.

    Args:
      config: checked settings.
      plan: the run's length.
      step: step at which the run starts or resumes.
      replicas: number of replicas that share a batch.
    """
    notes = (
        _warmup(config, plan),
        _profile(config, plan, step),
        *_intervals(config, plan),
        _batch_norm(config, replicas),
    )
    return [note for note in notes if note]


def _warmup(config: Config, plan: Plan) -> str | None:
    rate = make_schedule(config, plan)
    total, epochs = plan.total_steps, config.optimizer.warmup_epochs
    if not rate.warmup_steps or rate.warmup_steps < total:
        return None
    tenth = total * config.training.train_batch_size / plan.num_train / 10
    return (
        f"warmup_epochs={epochs:g} is {rate.warmup_steps} steps, and the run has {total}: the "
        f"learning rate ends at {float(rate(total - 1)):.3g}, below its peak of {rate.peak:.3g}. A "
        f"tenth of the run would be --warmup_epochs={tenth:.2g}"
    )


def _profile(config: Config, plan: Plan, step: int) -> str | None:
    profile_steps = config.training.profile_steps
    if not profile_steps:
        return None
    first, last = map(int, profile_steps.split(","))
    if first >= plan.total_steps:
        what = f"begins after the run's last step, {plan.total_steps}: no trace is written"
    elif last <= step:
        what = f"ends before step {step}, where the run resumes: no trace is written"
    elif last > plan.total_steps:
        what = f"ends after the run's last step, {plan.total_steps}: the trace ends there"
    else:
        return None
    return f"profile_steps={profile_steps} {what}. Choose steps within the run"


def _intervals(config: Config, plan: Plan) -> list[str]:
    training, total = config.training, plan.total_steps
    notes = []
    if training.checkpoint_steps > total:
        notes.append(
            f"checkpoint_steps={training.checkpoint_steps} is more than the run's {total} steps: "
            "only the final step is saved. Lower it to lose less if the run is killed"
        )
    if plan.eval_every_steps >= total:
        notes.append(
            f"eval_every_epochs={training.eval_every_epochs:g} is {plan.eval_every_steps} steps, "
            f"and the run has {total}: only the final weights are evaluated. Lower it to compare "
            "checkpoints"
        )
    if num_evaluated := plan.num_evaluated_if_partial(training.eval_batch_size):
        notes.append(
            f"eval_steps={training.eval_steps} evaluates {num_evaluated} of the {plan.num_eval} "
            f"images of split {config.data.eval_split}. --eval_steps=0 evaluates all"
        )
    return notes


def _batch_norm(config: Config, replicas: int) -> str | None:
    """Warns if batch normalization sees too few images for stable statistics."""
    model, training = config.model, config.training
    if model.fine_tune_after_block == 4 and model.frozen_batch_norm == "inference":
        return None  # only the head trains, and all layers normalize by their moving averages
    batch = training.train_batch_size
    replica_batch_size = batch // replicas
    images, why, way_out = batch, f"train_batch_size={batch}", "raise --train_batch_size"
    if training.microbatch_size and training.microbatch_size < replica_batch_size:
        images, why = training.microbatch_size, f"microbatch_size={training.microbatch_size}"
        way_out = "raise --microbatch_size"
    elif not model.global_bn and replicas > 1:
        images, why = replica_batch_size, f"global_bn=False and {replicas} replicas"
        way_out = "set --global_bn=True, or raise --train_batch_size"
    if images >= MIN_BATCH_NORM_IMAGES:
        return None
    return (
        f"Batch normalization sees {images} image{'s' * (images > 1)} at a time ({why}), and its "
        f"statistics need {MIN_BATCH_NORM_IMAGES} or more: {way_out}"
    )
