"""Compares converted checkpoints and SavedModels: endpoints, one forward and backward pass."""

import re
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

import convert_checkpoint
from golden_checks import steps
from golden_checks.report import LOSS, Report
from tf_simclr.checkpoints import weights
from tf_simclr.models import from_config
from tf_simclr.models.simclr import SimCLR
from tf_simclr.optim import policy

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
        config = config.replace(frozen_batch_norm="training")
        model = from_config.make_model(config, converted.num_classes)
        weights.restore_weights(model, model_dir)
    _compare_counts(report, name, expected, model)
    if any(key.startswith(("train|", "grad_", "after_train|")) for key in expected):
        steps.compare(report, name, expected, model, config)
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
                report.close(f"{name} {key}", steps.like(endpoint, value), value, relative=LOSS)


def _compare_counts(report: Report, name: str, expected: dict, model: SimCLR):
    """Compares the numbers of trainable variables and parameters."""
    shapes = [tuple(v.shape) for v in policy.trainable_variables(model)]
    counts = {"num_trainable": len(shapes), "num_params": sum(int(np.prod(s)) for s in shapes)}
    for key, count in counts.items():
        if key in expected:
            report.exact(f"{name} {key}", count, expected[key])
