"""Compares one training step of a network: outputs, losses, gradients and moving averages.

Deep networks amplify roundings, and a ReLU whose input is near 0 turns them into another gradient.
Two correct float32 steps may then differ by a hundredth, between two CPUs or two orders of a sum.
So the reference is the same step in float64. The golden numbers, our step with separate operations
of batch normalization, and our step with the fused operation may each differ from it by the usual
tolerance. If the noise of float32 is larger, they may differ by a multiple of it. The noise is
measured: it is the largest difference from float64 of the same step with its images in another
order.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from golden_checks import names
from golden_checks.report import GRADIENT, LOSS, Report, difference
from tf_simclr import compat
from tf_simclr.config import Config
from tf_simclr.data.batch import ViewBatch
from tf_simclr.models import from_config
from tf_simclr.models.simclr import SimCLR
from tf_simclr.optim import policy
from tf_simclr.training.tasks import make_task

# A gradient below this fraction of the global norm is measured against that fraction instead. It is
# the small sum of larger terms, whose float32 rounding differs between releases of TensorFlow.
_SMALL_GRADIENT = 1e-4
# Orders of the images in which the noise is measured, and how much of it is accepted. A ReLU may
# switch in one order only: in the golden ResNet-50 with selective kernels, a gradient of the
# official code differs from float64 by ten times the largest of so few differences.
_ORDERS = 3
_NOISE_FACTOR = 20
_AVERAGES = ("moving_mean", "moving_variance")


@dataclasses.dataclass(frozen=True)
class Quantity:
    """One line: {label: value}, the usual relative tolerance, and a lower bound of the size."""

    values: Mapping[str, np.ndarray | float]
    relative: float
    scale: float = 0.0


class _Recorder:
    """Calls a model and remembers the endpoints of the latest call."""

    def __init__(self, model: SimCLR) -> None:
        self._model = model
        self.endpoints: dict[str, tf.Tensor] = {}

    def __call__(self, images, training: bool):
        self.endpoints = self._model(images, training=training)
        return self.endpoints

    def __getattr__(self, name: str):
        return getattr(self._model, name)


def compare(report: Report, name: str, expected: dict, model: SimCLR, config: Config) -> None:
    """Compares a step of a network with the golden numbers, and its fused form with float64.

    Args:
      report: where to print.
      name: name of the network.
      expected: content of its expected.npz.
      model: the network with its weights.
      config: its settings.
    """
    plain, fused = (config.replace(fused_batch_norm=fused) for fused in (False, True))
    with report.guard(f"{name} step"):
        golden = _golden(expected, model)
        step = _step(_copy(model, plain), expected, plain)
        report.not_compared(f"{name} {key}" for key in golden if key not in step)
        with _float64():
            exact = _step(_copy(model, plain), expected, plain)
        rng = np.random.default_rng(0)
        orders = [rng.permutation(len(expected["labels"])) for _ in range(_ORDERS)]
        noisy = [_step(_copy(model, plain), expected, plain, order) for order in orders]
        limits = {
            key: _limits(exact[key], [step[key] for step in noisy]) for key in golden if key in step
        }
        _compare(report, name, golden, exact, limits)
        _compare(report, f"{name} ours:", step, exact, limits)
        fused_step = _step(_copy(model, fused), expected, fused)
        _compare(report, f"{name} ours, fused:", fused_step, exact, limits)


def _golden(expected: dict, model: SimCLR) -> dict[str, Quantity]:
    """Returns the quantities of the golden step under our variables' paths."""
    found = {
        key: Quantity({"": value}, LOSS)
        for key, value in expected.items()
        if key.startswith("train|")
    }
    if "grad_global_norm" in expected:
        found["grad_global_norm"] = Quantity({"": expected["grad_global_norm"]}, GRADIENT)
    if "grad_norms" in expected:
        norms = expected["grad_norms"]
        by_path = _by_path(expected["grad_names"], norms, policy.groups(model))
        scale = _SMALL_GRADIENT * float(np.linalg.norm(norms))
        found["grad_norms"] = Quantity(by_path, GRADIENT, scale)
    # The golden file names the moving means only.
    means = [f"{layer}/moving_mean" for layer in _normalizations(model)]
    for average in _AVERAGES:
        key = f"after_train|{average}_sum"
        if key in expected:
            sums = _by_path(expected["after_train|moving_names"], expected[key], means)
            found[key] = Quantity({path.rpartition("/")[0]: v for path, v in sums.items()}, LOSS)
    return found


def _step(
    model: SimCLR, expected: dict, config: Config, order: np.ndarray | None = None
) -> dict[str, Quantity]:
    """Computes the quantities of a step on the views x, without augmentation.

    Args:
      model: the network, whose moving averages change.
      expected: content of expected.npz.
      config: its settings.
      order: order of the images, (n,). Outputs are returned in the original order.
    """
    if order is None:
        order = np.arange(len(expected["labels"]))
    trainable = [compat.tf_variable(v) for v in policy.trainable_variables(model)]
    recorder: Any = _Recorder(model)  # stands in for the SimCLR of a task
    task = dataclasses.replace(
        make_task(config.replace(seed=0, use_blur=False), model), model=recorder
    )
    images, labels = (
        tf.cast(expected[key][order], keras.backend.floatx()) for key in ("x", "labels")
    )
    views = tf.stack(tf.split(images, images.shape[-1] // 3, axis=-1), axis=1)
    batch = ViewBatch(views, labels, tf.zeros(len(labels)))
    with tf.GradientTape() as tape:
        metrics = task.loss(task.forward(batch, step=0, part=0), task.targets(labels))
    gradients = tape.gradient(metrics["total_loss"], trainable)
    # In the official code, a variable that the loss does not depend on has the gradient 0.
    norms = [0.0 if g is None else float(tf.norm(g)) for g in gradients]

    outputs = recorder.endpoints | metrics
    found = {
        key: Quantity(
            {"": _restored(like(outputs[key.removeprefix("train|")], value), order)}, LOSS
        )
        for key, value in expected.items()
        if key.startswith("train|") and key.removeprefix("train|") in outputs
    }
    found["grad_global_norm"] = Quantity({"": float(np.linalg.norm(norms))}, GRADIENT)
    scale = _SMALL_GRADIENT * float(np.linalg.norm(norms))
    by_path = dict(zip(policy.groups(model), norms, strict=True))
    found["grad_norms"] = Quantity(by_path, GRADIENT, scale)
    variables = model.variables_by_path()
    for average in _AVERAGES:
        sums = {
            layer: np.sum(tf.convert_to_tensor(variables[f"{layer}/{average}"]), dtype=np.float64)
            for layer in _normalizations(model)
        }
        found[f"after_train|{average}_sum"] = Quantity(sums, LOSS)
    return found


def _compare(
    report: Report,
    name: str,
    got: Mapping[str, Quantity],
    exact: Mapping[str, Quantity],
    limits: Mapping[str, Mapping[str, float]],
) -> None:
    """Compares the quantities that have limits with those in float64."""
    for key, limits_of_key in limits.items():
        pairs = {
            label: (value, exact[key].values[label]) for label, value in got[key].values.items()
        }
        report.close_each(f"{name} {key}", pairs, relative=limits_of_key, scale=exact[key].scale)


def _limits(exact: Quantity, noisy: Sequence[Quantity]) -> dict[str, float]:
    """Returns how much each value may differ from float64, relative to its size.

    The noise of a value is at least the median over all values, because few orders may miss it.
    """
    noise = {
        label: max(difference(q.values[label], value, scale=exact.scale)[1] for q in noisy)
        for label, value in exact.values.items()
    }
    typical = float(np.median(list(noise.values())))
    return {
        label: max(exact.relative, _NOISE_FACTOR * max(of_label, typical))
        for label, of_label in noise.items()
    }


def _restored(output: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Puts the rows of an output, (n, ...) or (2n, ...) for two views, into the original order."""
    if not output.ndim:
        return output
    inverse = np.argsort(order)
    offsets = range(0, len(output), len(order))
    return output[np.concatenate([inverse + offset for offset in offsets])]


def _copy(model: SimCLR, config: Config) -> SimCLR:
    """Makes the model of the settings in the current float type, with the weights of another."""
    copy = from_config.make_model(config, model.num_classes)
    values = model.variables_by_path()
    for path, variable in copy.variables_by_path().items():
        variable.assign(tf.cast(tf.convert_to_tensor(values[path]), variable.dtype))
    return copy


@contextlib.contextmanager
def _float64() -> Iterator[None]:
    """Makes new models and batches compute in float64."""
    policy_before = keras.mixed_precision.global_policy()
    try:
        keras.backend.set_floatx("float64")
        keras.mixed_precision.set_global_policy("float64")  # Keras 3 reads floatx only once
        yield
    finally:
        keras.backend.set_floatx("float32")
        keras.mixed_precision.set_global_policy(policy_before)


def _normalizations(model: SimCLR) -> list[str]:
    """Returns the paths of the batch normalizations."""
    suffix = "/moving_mean"
    paths = model.variables_by_path()
    return [path.removesuffix(suffix) for path in paths if path.endswith(suffix)]


def _by_path(official_names, values, ours) -> dict[str, float]:
    """Returns {our path: golden value}."""
    paths = names.our_paths([str(name) for name in official_names], ours)
    return dict(zip((paths[str(name)] for name in official_names), values, strict=True))


def like(output: tf.Tensor, expected: np.ndarray) -> np.ndarray:
    """Averages our endpoint (b, h, w, c) over space if the golden one is averaged."""
    values = np.asarray(output)
    return values.mean((1, 2)) if values.ndim == 4 and expected.ndim == 2 else values
