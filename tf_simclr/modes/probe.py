"""Runs mode=probe: evaluates frozen features with linear and kNN classifiers.

Features are extracted once per split, and classifiers are fitted to them (SimCLR paper, appendix
B.8). The encoder does not change. `probe_summary` has a short version for the end of a training
run.
"""

import functools
import json
import os
import sys
import zlib
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tf_simclr import files, preflight
from tf_simclr.checkpoints import weights
from tf_simclr.config import Config
from tf_simclr.data.sources import labels, opening
from tf_simclr.data.sources.protocol import Source
from tf_simclr.devices import strategies
from tf_simclr.errors import ConfigError
from tf_simclr.models import from_config
from tf_simclr.models.simclr import SimCLR
from tf_simclr.probes import feature_cache, knn, logistic, metrics
from tf_simclr.probes.feature_files import FeatureWriter
from tf_simclr.probes.features import PRETRAINED, UNTRAINED, Features
from tf_simclr.training.split_features import extract_split, report_left_out

RESULT = "result_probe.json"
# The setting that names each split.
_FLAGS = {"train": "train_split", "test": "eval_split", "validation": "probe_validation_split"}
ENCODER = "base_model/"  # prefix of the paths of the encoder's variables


def run(config: Config) -> dict:
    """Fits logistic regression and kNN to the features of one checkpoint.

    Args:
      config: checked settings, with a seed. The encoder comes from the setting checkpoint,
        otherwise from the latest checkpoint in model_dir.

    Returns:
      The content of result_probe.json in model_dir, and its path under "path".

    Raises:
      ConfigError: there is no such checkpoint, split or data set, or the data set has no labels.
      UndecodableError: no example of a split can be decoded.
    """
    model_dir = config.runtime.model_dir
    assert model_dir is not None, "the settings are checked"
    prefix = weights.find(config.training.checkpoint or model_dir)

    # Open the data.
    source = _open_labeled_data(config)
    splits = _splits(config)
    num_examples = {
        name: source.num_examples(split, flag=_FLAGS[name]) for name, split in splits.items()
    }

    # Load the encoders.
    strategy = strategies.from_config(config)
    preflight.check_divisible("eval_batch_size", config.training.eval_batch_size, strategy)
    with strategy.scope():
        encoders = {PRETRAINED: from_config.make_model(config, None)}
        weights.restore_weights(encoders[PRETRAINED], prefix, variable_schema=ENCODER)
        if config.probe.probe_baselines:
            encoders[UNTRAINED] = from_config.make_model(config, None)

    # Extract the features.
    features_by_split = {
        name: _load_or_extract(config, source, encoders, split, strategy, model_dir)
        for name, split in splits.items()
    }

    # Fit the classifiers.
    metric = metrics.metric_for(source.name)
    results = {
        encoder: _fit_classifiers(encoder, features_by_split, metric, source.num_classes)
        for encoder in features_by_split["train"].arrays
    }

    # Write the result.
    content = {
        "checkpoint": prefix,
        "dataset": source.name,
        "splits": splits,
        "examples": num_examples,
        "skipped": {name: split.skipped for name, split in features_by_split.items()},
        "unlabelled": {name: split.unlabelled for name, split in features_by_split.items()},
        "image_size": config.data.image_size,
        "metric": metric,
        "encoders": results,
    }
    path = os.path.join(model_dir, RESULT)
    tf.io.gfile.makedirs(model_dir)
    files.write_text(path, json.dumps(content, indent=2) + "\n")
    if problem := source.keep_listing():
        print(problem, file=sys.stderr)
    return content | {"path": path}


def _splits(config: Config) -> dict[str, str]:
    """Returns {name: split} to extract features from: train, test, and validation if it is set."""
    splits = {"train": config.data.train_split, "test": config.data.eval_split}
    if config.probe.probe_validation_split:
        splits["validation"] = config.probe.probe_validation_split
    return splits


def _open_labeled_data(config: Config) -> Source:
    """Opens the data set.

    Raises:
      ConfigError: it cannot be opened, or it has no labels, or one of the splits has none.
    """
    source = opening.open_data(config)
    if source.num_classes is None:
        reason = f" ({source.label_note})" if source.label_note else ""
        raise ConfigError(
            f"dataset {source.name} has no class labels to probe with{reason}: use another"
        )
    for name, split in _splits(config).items():
        labels.require(source, split, flag=_FLAGS[name], way_out="use another split")
    return source


def _load_or_extract(
    config: Config,
    source: Source,
    encoders: Mapping[str, SimCLR],
    split: str,
    strategy: tf.distribute.Strategy,
    model_dir: str,
) -> Features:
    """Returns the features of a split, from a file in model_dir if they were extracted before."""
    data, with_pixels = config.data, config.probe.probe_baselines
    key = repr(
        (
            "4",
            {name: _checksum(encoder) for name, encoder in encoders.items()},
            data.dataset,
            data.data_dir,
            source.fingerprint(),
            split,
            source.num_examples(split),
            data.image_size,
            data.image_range,
            config.model.max_pool_padding,
            config.model.input_normalization,
            config.training.precision,
            data.image_key,
            data.label_key,
            with_pixels,
        )
    )
    directory = os.path.join(model_dir, "features")

    def extract(writer: FeatureWriter) -> Features:
        if writer.num_batches:
            print(f"Features of {split}: going on after {writer.num_kept} images", file=sys.stderr)
        return extract_split(
            config, source, encoders, split, strategy, with_pixels=with_pixels, store=writer
        )

    extracted, from_file = feature_cache.cached(
        directory,
        key,
        extract,
        num_examples=source.num_examples(split),
        batch_size=config.training.eval_batch_size,
    )
    origin = f"from {directory}" if from_file else f"kept in {directory}"
    print(f"Features of {split}: {len(extracted.labels)} images, {origin}", file=sys.stderr)
    report_left_out(split, extracted)
    return extracted


def _checksum(model: SimCLR) -> int:
    """Computes a checksum of the encoder's variables and their paths."""
    checksum = 0
    for path, variable in model.variables_by_path().items():
        if path.startswith(ENCODER):
            value = np.ascontiguousarray(tf.convert_to_tensor(variable))
            checksum = zlib.crc32(value.data, zlib.crc32(path.encode(), checksum))
    return checksum


def _fit_classifiers(
    encoder: str, features_by_split: Mapping[str, Features], metric: str, num_classes: int | None
) -> dict[str, dict]:
    """Returns {classifier: its accuracies} on the features of one encoder."""
    train, test = features_by_split["train"], features_by_split["test"]
    accuracies = functools.partial(metrics.accuracies, labels=test.labels, num_classes=num_classes)
    validation = features_by_split.get("validation")
    train_features, test_features = train.blocks(encoder), test.blocks(encoder)
    probe, choice = logistic.sweep(
        train_features,
        train.labels,
        validation=(validation.blocks(encoder), validation.labels) if validation else None,
        metric=metric,
        description=f"L-BFGS, {encoder}",
    )
    results = {"logistic": choice | accuracies(probe.ranks(test_features, test.labels))}
    ranks_by_k = knn.classify(
        train_features,
        train.labels,
        test_features,
        test.labels,
        description=f"kNN, {encoder}",
    )
    return results | {f"knn_{k}": accuracies(ranks) for k, ranks in ranks_by_k.items()}
