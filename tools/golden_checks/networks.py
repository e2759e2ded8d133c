"""Compares converted checkpoints and SavedModels: endpoints, one forward and backward pass."""

import dataclasses
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import convert_checkpoint
from golden_checks import names
from golden_checks.report import GRADIENT, LOSS, Report
from tf_simclr import compat
from tf_simclr.checkpoints import weights
from tf_simclr.config import Config
from tf_simclr.data.batch import ViewBatch
from tf_simclr.models import from_config
from tf_simclr.models.simclr import SimCLR
from tf_simclr.optim import policy
from tf_simclr.training.tasks import make_task

_KNOWN = {
    "args",
    "x",
    "labels",
    "num_params",
    "num_trainable",
    "grad_names",
    "grad_norms",
    "grad_global_norm",
    "after_train|moving_names",
    "after_train|moving_mean_sum",
    "after_train|moving_variance_sum",
}
_FILES = re.compile(
    r"expected\.npz|checkpoint|.*\.index|.*\.data-.*|saved_model\.pb|fingerprint\.pb|variables"
)
# A gradient below this fraction of the global norm is measured against that fraction instead. It is
# the small sum of larger terms, whose float32 rounding differs between releases of TensorFlow.
_SMALL_GRADIENT = 1e-4


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


def compare(report: Report, name: str, directory: Path) -> None:
    """Compares one network, a checkpoint or SavedModel, with its expected.npz."""
    with np.load(directory / "expected.npz") as file:
        expected = dict(file)
    config = convert_checkpoint.parse_settings([str(arg) for arg in expected["args"]])
    with tempfile.TemporaryDirectory() as folder:
        model_dir = str(Path(folder, "model_dir"))
        converted = convert_checkpoint.convert(str(directory), model_dir, config)
        _compare_exported(report, name, expected, Path(model_dir, "saved_model", "0"))
        if config.model.fine_tune_after_block >= 0:
            report.note(
                f"{name} train| and after_train| hold the official code's mode, in which frozen "
                "blocks normalize by the batch (frozen_batch_norm=training); our default, "
                "inference, differs on purpose"
            )
        model = from_config.make_model(
            config.replace(frozen_batch_norm="training"), converted.num_classes
        )
        weights.restore_weights(model, model_dir)
    _compare_counts(report, name, expected, model)
    if any(key.startswith(("train|", "grad_", "after_train|")) for key in expected):
        _compare_step(report, name, expected, model, config)
    report.not_compared(
        [
            f"{name}/expected.npz {key}"
            for key in expected
            if key not in _KNOWN and not key.startswith(("eval|", "train|"))
        ]
        + [f"{name}/{path.name}" for path in directory.iterdir() if not _FILES.fullmatch(path.name)]
    )


def _compare_exported(report: Report, name: str, expected: dict, path: Path):
    """Compares the SavedModel's endpoints in inference."""
    images = expected["x"]
    views = np.concatenate(np.split(images, images.shape[-1] // 3, axis=-1))
    endpoints = tf.saved_model.load(str(path))(tf.constant(views), trainable=False)
    for key, value in expected.items():
        if key.startswith("eval|"):
            endpoint = endpoints.get(key.removeprefix("eval|"))
            if endpoint is None:
                report.wrong(f"{name} {key}", "our SavedModel has no such endpoint")
            else:
                report.close(f"{name} {key}", _like(endpoint, value), value, relative=LOSS)


def _compare_counts(report: Report, name: str, expected: dict, model: SimCLR):
    """Compares the numbers of trainable variables and parameters."""
    shapes = [tuple(v.shape) for v in policy.trainable_variables(model)]
    counts = {"num_trainable": len(shapes), "num_params": sum(int(np.prod(s)) for s in shapes)}
    for key, count in counts.items():
        if key in expected:
            report.exact(f"{name} {key}", count, expected[key])


def _compare_step(report: Report, name: str, expected: dict, model: SimCLR, config: Config):
    """Compares losses, outputs, gradients and moving averages of one training step."""
    groups = policy.groups(model)
    trainable = [compat.tf_variable(v) for v in policy.trainable_variables(model)]
    recorder: Any = _Recorder(model)  # stands in for the SimCLR of a task
    with tf.GradientTape() as tape:
        metrics = _loss(recorder, model, expected, config)
    gradients = tape.gradient(metrics["total_loss"], trainable)
    # In the official code, a variable that the loss does not depend on has the gradient 0.
    norms = [0.0 if g is None else float(tf.norm(g)) for g in gradients]

    outputs = recorder.endpoints | metrics
    for key, value in expected.items():
        if key.startswith("train|"):
            output = outputs.get(key.removeprefix("train|"))
            if output is None:
                report.not_compared([f"{name} {key}"])
            else:
                report.close(f"{name} {key}", _like(output, value), value, relative=LOSS)
    if "grad_global_norm" in expected:
        norm = np.linalg.norm(norms)
        report.close(
            f"{name} grad_global_norm", norm, expected["grad_global_norm"], relative=GRADIENT
        )
    if "grad_norms" in expected:
        with report.guard(f"{name} grad_norms"):
            theirs = _by_path(expected["grad_names"], expected["grad_norms"], groups)
            ours = dict(zip(groups, norms, strict=True))
            report.close_each(
                f"{name} grad_norms",
                {path: (ours[path], norm) for path, norm in theirs.items()},
                relative=GRADIENT,
                scale=_SMALL_GRADIENT * float(np.linalg.norm(expected["grad_norms"])),
            )
    for average in ("moving_mean", "moving_variance"):
        if f"after_train|{average}_sum" in expected:
            with report.guard(f"{name} after_train|{average}_sum"):
                _compare_moving(report, name, average, expected, model)


def _loss(recorder: SimCLR, model: SimCLR, expected: dict, config: Config) -> dict:
    """Computes the metrics of the training task on the views x, without augmentation."""
    config = config.replace(seed=0, use_blur=False)
    task = dataclasses.replace(make_task(config, model), model=recorder)
    images, labels = expected["x"], tf.convert_to_tensor(expected["labels"])
    views = tf.stack(tf.split(images, images.shape[-1] // 3, axis=-1), axis=1)
    batch = ViewBatch(views, labels, tf.zeros(len(labels)))
    return task.loss(task.forward(batch, step=0, part=0), task.targets(labels))


def _compare_moving(report: Report, name: str, average: str, expected: dict, model: SimCLR):
    """Compares the sums of each layer's moving means or variances after the step."""
    # The golden file names the moving means only.
    layers = [
        path.removesuffix("/moving_mean")
        for path in model.variables_by_path()
        if path.endswith("/moving_mean")
    ]
    sums = expected[f"after_train|{average}_sum"]
    theirs = _by_path(
        expected["after_train|moving_names"], sums, [f"{layer}/moving_mean" for layer in layers]
    )
    ours = model.variables_by_path()
    pairs = {}
    for layer in layers:
        values = tf.convert_to_tensor(ours[f"{layer}/{average}"]).numpy()
        pairs[layer] = (np.sum(values, dtype=np.float64), theirs[f"{layer}/moving_mean"])
    report.close_each(f"{name} after_train|{average}_sum", pairs, relative=LOSS)


def _by_path(official_names, values, ours) -> dict[str, float]:
    """Returns {our path: golden value}."""
    paths = names.our_paths([str(name) for name in official_names], ours)
    return dict(zip((paths[str(name)] for name in official_names), values, strict=True))


def _like(output, expected: np.ndarray) -> np.ndarray:
    """Averages our endpoint (b, h, w, c) over space if the golden one is averaged."""
    output = np.asarray(output)
    return output.mean((1, 2)) if output.ndim == 4 and expected.ndim == 2 else output
