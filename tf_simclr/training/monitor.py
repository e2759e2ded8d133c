"""The hook that measures the embeddings of a pretraining run: is it learning, has it collapsed?"""

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from tf_simclr.data import errors
from tf_simclr.probes import diagnostics
from tf_simclr.training import collapse
from tf_simclr.training.embedder import Embeddings
from tf_simclr.training.hooks import Chunk, Hook, next_multiple
from tf_simclr.training.metrics_file import MONITOR, Record

MAX_SPECTRUM = 256


class RecordWriter(Protocol):
    """Writes records, as `metrics_file.Writer` does."""

    def write(self, record: Record) -> None:
        """Writes one record."""


def figures(embeddings: Embeddings) -> tuple[dict[str, float], list[float]]:
    """Computes the figures of a measurement (`probes.diagnostics`).

    Uniformity is the mean over the two views, as in the paper's code. embedding_std is computed
    over both views together. knn_top_1 is left out with fewer than two classes. Figures that are
    not finite are left out.

    Returns:
      {tag: value}, and the spectrum of the features: the singular values divided by the largest.
      Of more than 256 singular values, 256 are kept: the first, the last, and others that are
      evenly spaced by rank. Both are empty if fewer than two images are left.
    """
    z1, z2, features = embeddings.z1, embeddings.z2, embeddings.features
    if min(len(z1), len(features)) < 2 or not all(np.isfinite(x).all() for x in embeddings):
        return {}, []
    singular_values = diagnostics.singular_values(features)
    values = {
        "alignment": diagnostics.alignment(z1, z2),
        "uniformity": (diagnostics.uniformity(z1) + diagnostics.uniformity(z2)) / 2,
        "positive_similarity": diagnostics.positive_similarity(z1, z2),
        "negative_similarity": diagnostics.negative_similarity(z1, z2),
        "embedding_std": diagnostics.embedding_std(np.concatenate([z1, z2])),
        "rankme": diagnostics.rankme(singular_values),
        "rankme_projections": diagnostics.rankme(
            diagnostics.singular_values(embeddings.projections)
        ),
    }
    is_labeled = embeddings.labels >= 0
    labels = embeddings.labels[is_labeled]
    if len(np.unique(labels)) >= 2:
        values["knn_top_1"] = diagnostics.knn_top_1(features[is_labeled], labels)
    return (
        {f"monitor/{name}": value for name, value in values.items() if math.isfinite(value)},
        thin(singular_values),
    )


def max_ranks(embeddings: Embeddings) -> dict[str, int]:
    """Returns {tag: largest possible value} of the effective ranks."""
    return {
        "monitor/rankme": min(embeddings.features.shape),
        "monitor/rankme_projections": min(embeddings.projections.shape),
    }


def thin(singular_values: np.ndarray) -> list[float]:
    """Divides singular values by the largest and keeps at most 256, evenly spaced by rank."""
    if not singular_values[0] > 0:
        return []
    count = min(MAX_SPECTRUM, len(singular_values))
    kept = np.rint(np.linspace(0, len(singular_values) - 1, count)).astype(int)
    return (singular_values[kept] / singular_values[0]).tolist()


class Outputs(NamedTuple):
    """Where the figures of a measurement go.

    Attributes:
      summaries: writer of the run's event file; its owner closes it.
      records: writes metrics.jsonl; None on workers that are not the chief.
      to_record: (kind, step, values) -> Record.
      measured: called on every worker with the figures, which are empty on workers that are not
        the chief.
    """

    summaries: tf.summary.SummaryWriter
    records: RecordWriter | None
    to_record: Callable[[str, int, Mapping[str, float]], Record]
    measured: Callable[[Mapping[str, float]], None]


class Monitor(Hook):
    """Measures every `every_steps` steps and at the end, and warns of a collapse.

    All workers embed the images. Only the chief computes the figures and writes them.
    """

    def __init__(
        self,
        embed: Callable[[], Embeddings],
        metric_names: Sequence[str],
        outputs: Outputs,
        *,
        every_steps: int,
        warmup_steps: int,
        batch_size: int,
    ):
        """Prepares the hook. It must come after RequireFinite.

        Args:
          embed: an Embedder.
          metric_names: names of the metrics of a step.
          outputs: where the figures go.
          every_steps: steps between measurements.
          warmup_steps: steps of the warm-up. Warnings come after it, and after 100 more steps.
          batch_size: number of images in a global batch.
        """
        self._embed, self._outputs, self._every_steps = embed, outputs, every_steps
        self._loss_column = metric_names.index("contrast_loss")
        self._warmup_steps, self._batch_size = warmup_steps, batch_size
        self._loss_sum, self._num_steps = 0.0, 0  # since the last measurement
        self._printed: set[str] = set()

    def next_boundary(self, step: int) -> float:
        return next_multiple(step, self._every_steps)

    def after(self, chunk: Chunk) -> None:
        losses = chunk.metrics[max(0, self._warmup_steps - chunk.first_step) :, self._loss_column]
        self._loss_sum += float(losses.sum(dtype=np.float64))
        self._num_steps += len(losses)
        if chunk.last_step % self._every_steps and not chunk.is_end:
            return
        loss = self._loss_sum / self._num_steps if self._num_steps else None
        self._loss_sum, self._num_steps = 0.0, 0
        began = time.monotonic()
        try:
            embeddings = self._embed()
        except errors.UndecodableError as error:
            # Training does not need these images, so it continues.
            self._say(chunk.last_step, "data", f"The embeddings cannot be measured: {error}")
            return
        values: dict[str, float] = {}
        if self._outputs.records is not None:
            values = self._measure(chunk.last_step, embeddings, loss, began)
        self._outputs.measured(values)

    def _measure(
        self, step: int, embeddings: Embeddings, loss: float | None, began: float
    ) -> dict[str, float]:
        """Computes and writes the figures, and warns of a collapse; returns {tag: value}."""
        values, spectrum = figures(embeddings)
        if not values:
            text = (
                "There are no figures: the embeddings are not finite, or fewer than two images can "
                "be decoded"
            )
            self._say(step, "figures", text)
        values |= {
            "monitor/images": float(len(embeddings.features)),
            "monitor/seconds": time.monotonic() - began,
        }
        warnings = self._warnings(step, values, loss, max_ranks(embeddings))
        self._write(step, values, spectrum, warnings)
        return values

    def _warnings(
        self, step: int, values: dict[str, float], loss: float | None, ranks: dict[str, int]
    ) -> list[str]:
        """Returns the warnings of a measurement, and prints them."""
        if step < self._warmup_steps + collapse.MIN_STEPS:
            return []
        texts = collapse.warnings(
            values, contrast_loss=loss, num_images=self._batch_size, max_ranks=ranks
        )
        for kind, text in texts.items():
            self._say(step, kind, text)
        return list(texts.values())

    def _say(self, step: int, kind: str, text: str) -> None:
        """Prints a text, but only the first of its kind."""
        if kind not in self._printed:
            self._printed.add(kind)
            print(f"Step {step}: {text}", file=sys.stderr)

    def _write(
        self, step: int, values: dict[str, float], spectrum: list[float], warnings: list[str]
    ) -> None:
        with self._outputs.summaries.as_default(step=step):
            for tag, value in values.items():
                tf.summary.scalar(tag, value)
        assert self._outputs.records is not None, "the caller checks it"
        record = self._outputs.to_record(MONITOR, step, values)
        self._outputs.records.write(
            dataclasses.replace(record, spectrum=spectrum, warnings=warnings)
        )
