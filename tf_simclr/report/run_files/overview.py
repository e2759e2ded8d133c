"""Sums up a run: its state, whether it is learning or has collapsed, and its best figures."""

import math

from tf_simclr.checkpoints.history import DIVERGED
from tf_simclr.models.size import feature_channels
from tf_simclr.report.content import Fact, Overview, Verdict
from tf_simclr.report.run_files import figures
from tf_simclr.report.run_files.figures import CONTRASTIVE, KNN, RANK, Value
from tf_simclr.report.run_files.run_folder import Run
from tf_simclr.training import collapse
from tf_simclr.training.metrics_file import MONITOR, TRAIN, Record

MAX_WARNINGS = 10
# A loss below this share of its chance level is not an accident.
LEARNS_BELOW = 0.95


def make(run: Run, name: str) -> Overview:
    """Makes the overview of a run.

    Args:
      run: the run.
      name: its short name, unique in the report.
    """
    return Overview(
        name=name,
        model_dir=run.model_dir,
        state=run.state_text,
        verdicts=tuple(verdicts(run)),
        facts=tuple(_facts(run)),
        is_pretraining=_is_pretraining(run),
    )


def verdicts(run: Run) -> list[Verdict]:
    """Answers whether a run is learning and whether it has collapsed, as far as its data says."""
    answers = []
    if run.state == DIVERGED:
        message = run.starts[-1].end.message if run.starts and run.starts[-1].end else ""
        answers.append(Verdict("bad", f"Diverged: {message or 'the loss became infinite or NaN.'}"))
    if _is_pretraining(run):
        return [*answers, _learning(run), *_collapsed(run)]
    return [*answers, _supervised(run)]


def _is_pretraining(run: Run) -> bool:
    return run.settings.get("train_mode", "pretrain") == "pretrain"


def _learning(run: Run) -> Verdict:
    """Compares the contrastive loss with its chance level."""
    losses = figures.series(run, CONTRASTIVE)
    batch_size = run.settings.get("train_batch_size")
    if not losses:
        return Verdict(
            "warning", "Cannot say whether it is learning: no contrastive loss is recorded yet."
        )
    if not batch_size or batch_size < 1:
        return Verdict(
            "warning",
            "Cannot say whether it is learning: the settings are missing, and with them the batch "
            "size on which the loss at chance depends.",
        )
    first, last, chance = losses[0], losses[-1], collapse.chance_level(batch_size)
    if len(losses) == 1:
        return Verdict(
            "warning",
            f"Too early to say whether it is learning: contrastive loss {_at(last)} "
            f"(chance: {chance:.2f}) is the only one so far.",
        )
    change = f"{_at(first)} to {_at(last)} (chance: {chance:.2f})"
    is_falling = last.value < first.value
    if is_falling and last.value < LEARNS_BELOW * chance:
        return Verdict("good", f"Learning: contrastive loss fell from {change}.")
    text = f"contrastive loss went from {change}."
    if (last.step or 0) < _first_step_to_judge(run):
        return Verdict("warning", f"Too early to say whether it is learning: {text}")
    if last.value < (1 - collapse.CHANCE_MARGIN) * chance:
        return Verdict("warning", f"{'Learning slowly' if is_falling else 'Not improving'}: {text}")
    return Verdict("bad", f"Not learning: {text}")


def _first_step_to_judge(run: Run) -> float:
    """Returns the step after which figures mean something: MIN_STEPS after the warm-up."""
    epochs, batch_size = (run.settings.get(n) for n in ("warmup_epochs", "train_batch_size"))
    num_train = run.starts[-1].num_train if run.starts else None
    if epochs and batch_size and num_train:
        return collapse.MIN_STEPS + epochs * num_train / batch_size
    return collapse.MIN_STEPS


def _collapsed(run: Run) -> list[Verdict]:
    """Answers from the warnings and the figures of the last measurement."""
    measured = run.of_kind(MONITOR)
    if not measured:
        return [
            Verdict(
                "warning",
                "Cannot say whether it has collapsed: no figures of the embeddings are recorded "
                "(--monitor_images).",
            )
        ]
    record = measured[-1]
    where = f"at step {record.step:,}"
    if record.warnings:
        return [
            Verdict("bad", f"{text} (warning {where})") for text in record.warnings[:MAX_WARNINGS]
        ]
    std, rank = (record.values.get(tag) for tag in ("monitor/embedding_std", RANK))
    if std is None or rank is None:
        missing = "spread of projections" if std is None else "effective rank"
        return [
            Verdict(
                "warning",
                f"Cannot say whether it has collapsed: the figures {where} lack the {missing}.",
            )
        ]
    text = f"spread of projections {std:.2f} (1 if even), effective rank {rank:.1f} {where}"
    found = collapse.warnings(
        record.values, contrast_loss=None, num_images=1, max_ranks=_max_ranks(run, record)
    )
    if not found:
        return [Verdict("good", f"Not collapsed: {text}.")]
    if record.step < _first_step_to_judge(run):
        return [Verdict("warning", f"Too early to say whether it has collapsed: {text}.")]
    return [Verdict("bad", f"Collapsed: {text}.")]


def _max_ranks(run: Run, record: Record) -> dict[str, int]:
    """Returns {tag: the largest value that an effective rank could have}, where that is known."""
    depth, width, dim = (
        run.settings.get(name) for name in ("resnet_depth", "width_multiplier", "proj_out_dim")
    )
    images = record.values.get("monitor/images")
    if images is None or depth is None or width is None or dim is None:
        return {}
    features = feature_channels(depth, width)
    has_head = run.settings.get("proj_head_mode") != "none"
    return {
        RANK: min(int(images), features),
        "monitor/rankme_projections": min(int(images), dim if has_head else features),
    }


def _supervised(run: Run) -> Verdict:
    """Says how the loss of fine-tuning or distillation has changed."""
    for tag, name in (
        ("train/distill_loss", "distillation loss"),
        ("train/supervised_loss", "supervised loss"),
    ):
        losses = figures.series(run, tag)
        if len(losses) > 1:
            text = f"{name} went from {_at(losses[0])} to {_at(losses[-1])}."
            if losses[-1].value < losses[0].value:
                return Verdict("good", f"Learning: {text}")
            return Verdict("warning", f"The loss has not fallen: {text}")
    return Verdict(
        "warning", "Cannot say whether it is learning: fewer than two losses are recorded."
    )


def _at(value: Value) -> str:
    return f"{value.value:.2f}" + ("" if value.step is None else f" at step {value.step:,}")


# --- Facts.


def _facts(run: Run) -> list[Fact]:
    """Returns the figures that the run has; those that it lacks are left out."""
    facts = []
    knn = figures.best_knn(run)
    if knn:
        facts.append(_accuracy("Nearest neighbors, top-1", knn, figures.last(run, KNN)))
    top_1 = figures.best_top_1(run)
    if top_1:
        name = "Linear evaluation, top-1"
        if not _is_pretraining(run):
            name = "Top-1 accuracy"
        facts.append(_accuracy(name, top_1, figures.last_top_1(run)))
    facts += _probe_facts(run)
    rank = figures.last(run, RANK)
    if rank:
        facts.append(Fact("Effective rank", f"{rank.value:.1f}", f"step {rank.step:,}"))
    loss = figures.loss(run)
    if loss:
        name = "Contrastive loss" if loss[0] == CONTRASTIVE else "Total loss"
        facts.append(Fact(name, f"{loss[1].value:.3f}", f"step {loss[1].step:,}"))
    speed = figures.series(run, "train/images_per_second")
    if speed:
        median = sorted(value.value for value in speed)[len(speed) // 2]
        facts.append(Fact("Speed", f"{median:,.0f} images/s", "median"))
    epochs = figures.epochs(run)
    if epochs is not None:
        facts.append(Fact("Epochs", f"{epochs:.3g}" if epochs < 100 else f"{epochs:.0f}"))
    return [*facts, *_time(run)]


def _accuracy(name: str, best: Value, last: Value | None) -> Fact:
    note = "" if best.step is None else f"best, at step {best.step:,}"
    if last and last.step != best.step:
        note += f"; last {100 * last.value:.1f}%"
    return Fact(name, f"{100 * best.value:.1f}%", note)


def _probe_facts(run: Run) -> list[Fact]:
    found = figures.probe_metric(run)
    if found is None:
        return []
    value, how = found
    others = []
    if how.startswith("quick"):
        summary = figures.probe_summary(run)
        baselines = {"raw pixels": "probe/raw_pixels", "untrained encoder": "probe/untrained"}
        others = [f"{n} {100 * summary[k]:.1f}%" for n, k in baselines.items() if k in summary]
    elif run.probe:
        baselines = {"raw pixels": "raw_pixels", "untrained encoder": "untrained"}
        for name, encoder in baselines.items():
            values = run.probe.accuracies.get(encoder, {}).get("logistic", {})
            if run.probe.metric in values:
                others.append(f"{name} {100 * values[run.probe.metric]:.1f}%")
    return [
        Fact(
            "Linear probe", f"{100 * value:.1f}%", "; ".join([how, ", ".join(others)]).rstrip("; ")
        )
    ]


def _time(run: Run) -> list[Fact]:
    """Returns the time from each start to its last sign of life; the pauses do not count."""
    times = [record.time for record in run.records if record.kind in (TRAIN, MONITOR)]
    if not run.starts or run.starts[0].step > 0:
        return []  # runs of earlier versions do not record their starts
    total = 0.0
    begins = [start.time for start in run.starts]
    for start, until in zip(run.starts, [*begins[1:], math.inf], strict=True):
        signs = [t for t in times if start.time <= t < until]
        total += max([*signs, start.end.time if start.end else start.time]) - start.time
    return [Fact("Time", duration(total), f"{len(run.starts)} starts" if len(begins) > 1 else "")]


def duration(seconds: float) -> str:
    """Formats a time: "45 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"."""
    whole = max(0, round(seconds))
    for unit, smaller, size, small in (
        ("d", "h", 86_400, 3_600),
        ("h", "min", 3_600, 60),
        ("min", "s", 60, 1),
    ):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"
