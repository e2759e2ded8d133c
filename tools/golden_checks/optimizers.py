"""Compares lars.npz and schedule.json: trajectories of LARS, and learning rates."""

import re

import keras
import numpy as np
import tensorflow as tf

from golden_checks.report import LOSS, WEIGHT, Report
from tf_simclr import compat
from tf_simclr.optim import schedule
from tf_simclr.optim.lars import LARS

_VARIANTS = {
    "classic": dict(use_nesterov=False, classic_momentum=True),
    "nesterov": dict(use_nesterov=True, classic_momentum=True),
    "popular": dict(use_nesterov=False, classic_momentum=False),
    "popular_nesterov": dict(use_nesterov=True, classic_momentum=False),
}
_EXCLUDED = ("batch_normalization", "bias", "head_supervised")
_SETTINGS = ("learning_rate", "momentum", "weight_decay", "eeta")
_LARS_FIELD = re.compile(
    rf"init\|.+|grad\d+\|.+|({'|'.join(_VARIANTS)})\|step\d+\|.+|{'|'.join(_SETTINGS)}"
)
_SCHEDULE_INPUTS = {
    "learning_rate",
    "learning_rate_scaling",
    "warmup_epochs",
    "train_batch_size",
    "num_examples",
    "train_epochs",
    "train_steps_flag",
    "steps",
}


def compare_lars(report: Report, name: str, values: dict[str, np.ndarray]) -> None:
    """Compares the weights after each step, for each variant in lars.npz."""
    for variant, options in _VARIANTS.items():
        expected = {k: v for k, v in values.items() if k.startswith(f"{variant}|")}
        if expected:
            with report.guard(f"{name} {variant}"):
                weights = _trajectory(values, options)
                names = {key: key.removeprefix(f"{variant}|") for key in expected}
                pairs = {names[key]: (weights[names[key]], expected[key]) for key in expected}
                report.close_each(f"{name} {variant}", pairs, relative=WEIGHT)
    report.not_compared(f"{name} {key}" for key in values if not _LARS_FIELD.fullmatch(key))


def _trajectory(values: dict[str, np.ndarray], options: dict) -> dict[str, np.ndarray]:
    """Takes all steps; returns {"stepS|NAME": weights after S steps}."""
    names = [key.removeprefix("init|") for key in values if key.startswith("init|")]
    excluded = [i for i, name in enumerate(names) if any(part in name for part in _EXCLUDED)]
    settings = {name: float(values[name]) for name in _SETTINGS if name in values} | options
    optimizer = LARS(
        exclude_from_weight_decay=excluded, exclude_from_layer_adaptation=excluded, **settings
    )
    make = keras.Variable if compat.KERAS_3 else tf.Variable
    variables = [make(values[f"init|{name}"]) for name in names]
    optimizer.build(variables)
    weights: dict[str, np.ndarray] = {}
    step = 0
    while f"grad{step}|{names[0]}" in values:
        gradients = [tf.constant(values[f"grad{step}|{name}"]) for name in names]
        compat.apply_gradients(optimizer, list(zip(gradients, variables, strict=True)))
        step += 1
        for name, variable in zip(names, variables, strict=True):
            weights[f"step{step}|{name}"] = tf.convert_to_tensor(variable).numpy()
    return weights


def compare_schedules(report: Report, name: str, cases: list[dict]) -> None:
    """Compares the number of steps and the learning rates of each setting in schedule.json."""
    for number, case in enumerate(cases):
        label = f"{name} [{number}]"
        with report.guard(label):
            _compare_schedule(report, label, case)


def _compare_schedule(report: Report, name: str, case: dict):
    batch_size, num_examples = case["train_batch_size"], case["num_examples"]
    total = schedule.total_steps(
        train_steps=case.get("train_steps_flag", 0),
        train_epochs=case["train_epochs"],
        num_examples=num_examples,
        global_batch_size=batch_size,
    )
    warmup = schedule.warmup_steps(case["warmup_epochs"], num_examples, batch_size)
    for key, count in (("total_steps", total), ("warmup_steps", warmup)):
        if key in case:
            report.exact(f"{name} {key}", count, case[key])
    peak = schedule.scaled_learning_rate(
        case["learning_rate"], case["learning_rate_scaling"], batch_size
    )
    rate = schedule.WarmUpAndCosineDecay(peak, warmup_steps=warmup, total_steps=total)
    rates = [float(rate(step)) for step in case["steps"]]
    report.close(f"{name} learning rates", rates, case["values"], relative=LOSS)
    known = _SCHEDULE_INPUTS | {"values", "total_steps", "warmup_steps"}
    report.not_compared(f"{name} {key}" for key in set(case) - known)
