"""Summarizes the quality of the features at the end of a training run, and draws a figure.

It compares the trained encoder with raw pixels and with the untrained encoder. `probe` has the
thorough version.
"""

import dataclasses
import os
import sys
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.data.sources.protocol import Source
from tf_simclr.models import from_config
from tf_simclr.models.simclr import SimCLR
from tf_simclr.probes import logistic, metrics
from tf_simclr.probes.features import PRETRAINED, RAW_PIXELS, UNTRAINED, Extras, Features
from tf_simclr.report.content import Images
from tf_simclr.training.split_features import extract_split, report_left_out

NEIGHBORS = 7
CANDIDATES = slice(10_000)  # the training images searched for neighbors


class ProbeSummary(NamedTuple):
    """What the features of a run are good for.

    Attributes:
      results: probe/raw_pixels, probe/untrained and probe/pretrained: top-1 accuracies on the
        evaluation split. neighbours/raw_pixels, neighbours/untrained and neighbours/pretrained: the
        fraction of the nearest training images that share the evaluation image's class, over the
        whole split. neighbours: a description of what was counted. picture: the path of
        neighbours.png.
      images: the map, neighbors and confusions of the run's report.
      notes: what the report leaves out, and why.
    """

    results: dict[str, float | str]
    images: Images
    notes: list[str]


def summarize(
    config: Config, source: Source, encoder: SimCLR, *, num_classes: int | None, checkpoint: str
) -> ProbeSummary:
    """Compares raw pixels, the untrained and the trained encoder, and draws their neighbors.

    It is quick: it fits one logistic regression for each of the three, with L2 strength 1 instead
    of a sweep.

    Args:
      config: settings of the run.
      source: data set of the run.
      encoder: the trained model.
      num_classes: number of classes of its supervised head; None without one. The random
        initialization of the untrained encoder depends on it.
      checkpoint: path of the trained model's weights, for the report.
    """
    from tf_simclr.probes import neighbors  # importing matplotlib takes a second

    print("Probing raw pixels, the untrained and the pretrained encoder ...", file=sys.stderr)
    encoders = {UNTRAINED: from_config.make_model(config, num_classes), PRETRAINED: encoder}
    strategy = tf.distribute.get_strategy()
    extras = Extras(predictions_of=None if num_classes is None else PRETRAINED)
    train, test = (
        extract_split(config, source, encoders, split, strategy, with_pixels=True, extras=extras)
        for split in (config.data.train_split, config.data.eval_split)
    )
    report_left_out(config.data.train_split, train)
    candidates = Features(
        {name: array[CANDIDATES] for name, array in train.arrays.items()},
        train.labels[CANDIDATES],
    )
    num_neighbors = min(NEIGHBORS, len(train.labels))
    results: dict[str, float | str] = {}
    nearest = {}
    for name in (RAW_PIXELS, UNTRAINED, PRETRAINED):
        classifier = logistic.fit(
            train.blocks(name), train.labels, tolerance=logistic.SWEEP_TOLERANCE
        )
        ranks = classifier.ranks(test.blocks(name), test.labels)
        results[f"probe/{name}"] = metrics.accuracies(ranks, test.labels)["top_1"]
        nearest[name] = neighbors.nearest(candidates.matrix(name), test.matrix(name), num_neighbors)
        results[f"neighbours/{name}"] = neighbors.share_of_hits(
            nearest[name], candidates.labels, test.labels
        )
    results["neighbours"] = f"Nearest {num_neighbors} of {len(candidates.labels):,} training images"
    results["picture"] = _draw(config, candidates, test, nearest)
    images, notes = _show(config, source, (train, test), nearest, checkpoint)
    return ProbeSummary(results, images, notes)


def _show(
    config: Config,
    source: Source,
    train_and_test: tuple[Features, Features],
    nearest: dict[str, np.ndarray],
    checkpoint: str,
) -> tuple[Images, list[str]]:
    """Makes the images of the report, and notes on what it leaves out."""
    from tf_simclr.report.images import encoded_images, image_sets

    # A run with --checkpoint did not start from random weights.
    shown = {RAW_PIXELS, PRETRAINED} if config.training.checkpoint else set(nearest)
    train, test = (
        dataclasses.replace(part, arrays={n: a for n, a in part.arrays.items() if n in shown})
        for part in train_and_test
    )
    splits = config.data.train_split, config.data.eval_split
    overlap_note = image_sets.overlap_note(source, *splits)
    images, notes = encoded_images.summarize(
        None if overlap_note else image_sets.of_features(train, source, splits[0]),
        image_sets.of_features(test, source, splits[1]),
        source.class_names,
        checkpoint=checkpoint,
        dataset=source.name,
        nearest=nearest,
    )
    return images, [*([overlap_note] if overlap_note else []), *notes]


def _draw(
    config: Config, candidates: Features, test: Features, nearest: dict[str, np.ndarray]
) -> str:
    """Draws the nearest neighbors of some test images into model_dir and returns the path."""
    from tf_simclr.probes import neighbors

    model_dir = config.runtime.model_dir
    assert model_dir is not None, "the settings are checked"
    is_pretraining = config.training.train_mode == "pretrain"
    encoder_title = "pretrained encoder" if is_pretraining else "fine-tuned encoder"
    picture = neighbors.figure(
        candidates.images(),
        candidates.labels,
        test.images(),
        test.labels,
        {"raw pixels": nearest[RAW_PIXELS], encoder_title: nearest[PRETRAINED]},
    )
    path = os.path.join(model_dir, "neighbours.png")
    with tf.io.gfile.GFile(path, "wb") as file:
        picture.savefig(file, format="png", dpi=100)
    return path
