"""Compares ntxent.npz: the contrastive loss on one replica and on several."""

import re
from collections import defaultdict

import numpy as np
import tensorflow as tf

from golden_checks.report import GRADIENT, LOSS, Report
from tf_simclr.config.sections import Loss
from tf_simclr.losses.nt_xent import logits, nt_xent_stacked, split_projections

_BLOCK_ROWS = 3  # fewer rows than any case has
_INPUTS = ("hidden", "temperature", "hidden_norm")
_TOLERANCES = {
    "loss": LOSS,
    "logits_ab": LOSS,
    "grad": GRADIENT,
    "contrast_acc": LOSS,
    "contrast_entropy": LOSS,
}
_FIELD = re.compile(rf"([cr]\d+)_({'|'.join((*_INPUTS, *_TOLERANCES))})")


def num_replicas(values: dict[str, np.ndarray]) -> int:
    """Returns the largest number of replicas of any case."""
    return max(
        (
            len(value)
            for key, value in values.items()
            if key.endswith("_hidden") and value.ndim == 3
        ),
        default=1,
    )


def compare(
    report: Report, name: str, values: dict[str, np.ndarray], *, fast: bool = False
) -> None:
    """Compares each case of ntxent.npz; with `fast`, computes the loss in blocks of rows."""
    cases: defaultdict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for key, value in values.items():
        if match := _FIELD.fullmatch(key):
            cases[match[1]][match[2]] = value
    for case, fields in cases.items():
        with report.guard(f"{name} {case}"):
            results = _run(
                fields["hidden"],
                temperature=float(fields.get("temperature", Loss.temperature)),
                hidden_norm=bool(fields.get("hidden_norm", Loss.hidden_norm)),
                block_rows=_BLOCK_ROWS if fast else 0,
            )
            for field, tolerance in _TOLERANCES.items():
                if field in fields:
                    report.close(
                        f"{name} {case}_{field}", results[field], fields[field], relative=tolerance
                    )
    report.not_compared(f"{name} {key}" for key in values if not _FIELD.fullmatch(key))


def _run(hidden: np.ndarray, **settings) -> dict[str, np.ndarray]:
    """Computes loss, gradient and outputs of hidden (2n, d), or of each of (replicas, 2n, d)."""
    if hidden.ndim == 2:
        return {k: v.numpy() for k, v in _differentiate(tf.constant(hidden), 1, **settings).items()}
    replicas = len(hidden)
    # With any other reduction, strategies of different sizes clash in one process.
    strategy = tf.distribute.MirroredStrategy(
        [f"CPU:{i}" for i in range(replicas)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
    parts = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(hidden[context.replica_id_in_sync_group])
    )

    @tf.function
    def run(parts):
        return strategy.run(lambda part: _differentiate(part, replicas, **settings), args=(parts,))

    return {
        k: np.stack([part.numpy() for part in strategy.experimental_local_results(v)])
        for k, v in run(parts).items()
    }


def _differentiate(
    hidden, replicas: int, *, temperature: float, hidden_norm: bool, block_rows: int
) -> dict[str, tf.Tensor]:
    with tf.GradientTape() as tape:
        tape.watch(hidden)
        outputs = nt_xent_stacked(
            hidden, temperature=temperature, hidden_norm=hidden_norm, block_rows=block_rows
        )
        scaled = outputs["contrast_loss"] / replicas
    gradient = tape.gradient(scaled, hidden)
    outputs |= {"loss": outputs["contrast_loss"], "grad": gradient}
    if replicas == 1:
        a, b = split_projections(hidden, hidden_norm=hidden_norm)
        outputs["logits_ab"] = logits(a, b, temperature=temperature)
    return outputs
