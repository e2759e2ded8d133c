"""What frozen features are worth: mode=probe, and the summary at the end of a run.

Classifiers are fitted on features that are extracted once (SimCLR paper, appendix B.8); the encoder
is not touched.
"""

import functools
import json
import os
import sys
import zlib

import numpy as np
import tensorflow as tf

from tf_simclr import preflight
from tf_simclr.checkpoints import run_dir, weights
from tf_simclr.config import Config
from tf_simclr.data.sources import labels, opening
from tf_simclr.data.sources.tfds_source import Source
from tf_simclr.devices import strategies
from tf_simclr.errors import ConfigError
from tf_simclr.models import from_config
from tf_simclr.models.simclr import SimCLR
from tf_simclr.probes import features, knn, logistic, metrics
from tf_simclr.probes.features import RAW_PIXELS, Features
from tf_simclr.training import run_input

PRETRAINED, UNTRAINED = "pretrained", "untrained"
NEIGHBOURS = 7
NEIGHBOUR_CANDIDATES = 10_000  # the first training images: all of shapes, a bounded part of others
RESULT = "result_probe.json"
ENCODER = "base_model/"


def run(config: Config) -> dict:
    """mode=probe: logistic regression and kNN on the features of one checkpoint.

    Args:
      config: checked settings, the seed among them. The encoder is that of checkpoint, or of the
        latest one in model_dir.

    Returns:
      What result_probe.json in model_dir holds, and under "path" where it lies.

    Raises:
      ConfigError: there is no such checkpoint, split or data set, or it has no labels.
      UndecodableError: not one example of a split can be decoded.
    """
    directory = config.runtime.model_dir
    checkpoint = config.training.checkpoint or directory
    prefix = weights.find(checkpoint)
    source = opening.open_data(config)
    if source.num_classes is None:
        why = f" ({source.label_note})" if source.label_note else ""
        raise ConfigError(
            f"dataset {source.name} has no class labels to probe with{why}: name another"
        )
    data, settings = config.data, config.probe
    splits = {"train": data.train_split, "test": data.eval_split}
    if settings.probe_validation_split:
        splits["validation"] = settings.probe_validation_split
    flags = {"train": "train_split", "test": "eval_split", "validation": "probe_validation_split"}
    for name in splits:
        labels.require(source, splits[name], flag=flags[name], way_out="name another split")
    counts = {name: source.num_examples(splits[name], flag=flags[name]) for name in splits}
    strategy = strategies.from_config(config)
    preflight.divisible("eval_batch_size", config.training.eval_batch_size, strategy)
    with strategy.scope():
        encoders = {PRETRAINED: from_config.make_model(config, None)}
        weights.restore_weights(encoders[PRETRAINED], prefix, variable_schema=ENCODER)
        if settings.probe_baselines:
            encoders[UNTRAINED] = from_config.make_model(config, None)
    found = {
        name: _features(config, source, encoders, splits[name], strategy=strategy)
        for name in splits
    }
    metric = metrics.metric_of(source.name)
    results = {
        name: _probe_both(name, found, metric=metric, num_classes=source.num_classes)
        for name in found["train"].arrays
    }
    content = {
        "checkpoint": prefix,
        "dataset": source.name,
        "splits": splits,
        "examples": counts,
        "skipped": {name: part.skipped for name, part in found.items()},
        "unlabelled": {name: part.unlabelled for name, part in found.items()},
        "image_size": data.image_size,
        "metric": metric,
        "encoders": results,
    }
    path = os.path.join(directory, RESULT)
    tf.io.gfile.makedirs(directory)
    run_dir.write_text(path, json.dumps(content, indent=2) + "\n")
    if problem := source.keep_listing():
        _say(problem)
    return content | {"path": path}


def _features(
    config: Config,
    source: Source,
    encoders: dict[str, SimCLR],
    split: str,
    *,
    strategy: tf.distribute.Strategy,
) -> Features:
    """Features of a split, from the file in model_dir where they are there already."""
    num_batches = -(-source.num_examples(split) // config.training.eval_batch_size)
    make = functools.partial(
        _extract,
        config,
        source,
        encoders,
        split,
        strategy=strategy,
        num_batches=num_batches,
        with_pixels=config.probe.probe_baselines,
    )
    data = config.data
    key = repr(
        (
            "2",
            {name: _fingerprint(encoder) for name, encoder in encoders.items()},
            data.dataset,
            data.data_dir,
            source.fingerprint(),
            split,
            source.num_examples(split),
            data.image_size,
            data.image_range,
            data.image_key,
            data.label_key,
            config.probe.probe_baselines,
        )
    )
    directory = os.path.join(config.runtime.model_dir, "features")
    found, from_file = features.cached(directory, key, make)
    origin = f"from {directory}" if from_file else f"kept in {directory}"
    _say(f"Features of {split}: {len(found.labels)} images, {origin}")
    _report_skipped(split, found)
    return found


def _extract(
    config, source, encoders, split, *, strategy, num_batches: int, with_pixels: bool
) -> Features:
    return features.extract(
        strategy,
        encoders,
        strategy.distribute_datasets_from_function(
            lambda context: run_input.eval_batches(config, source, split, context)
        ),
        num_batches=num_batches,
        with_pixels=with_pixels,
        description=f"features of {split}",
    )


def _fingerprint(model: SimCLR) -> int:
    """A checksum of the encoder's variables and their names."""
    checksum = 0
    for path, variable in model.variables_by_path().items():
        if path.startswith(ENCODER):
            value = np.ascontiguousarray(tf.convert_to_tensor(variable))
            checksum = zlib.crc32(value, zlib.crc32(path.encode(), checksum))
    return checksum


def _probe_both(name: str, found: dict[str, Features], *, metric: str, num_classes: int) -> dict:
    """{classifier: its accuracies} on the features of one encoder."""
    train, test = found["train"], found["test"]
    validation = None
    if "validation" in found:
        validation = found["validation"].matrix(name), found["validation"].labels
    probe, chosen = logistic.sweep(
        train.matrix(name),
        train.labels,
        validation=validation,
        metric=metric,
        description=f"L-BFGS, {name}",
    )
    accuracies = functools.partial(metrics.accuracies, labels=test.labels, num_classes=num_classes)
    results = {"logistic": chosen | accuracies(probe.ranks(test.matrix(name), test.labels))}
    ranks = knn.classify(
        train.matrix(name),
        train.labels,
        test.matrix(name),
        test.labels,
        description=f"kNN, {name}",
    )
    return results | {f"knn_{k}": accuracies(of_k) for k, of_k in ranks.items()}


def summarise(config: Config, source: Source, encoder: SimCLR, *, num_classes: int | None) -> dict:
    """Compares raw pixels, the untrained and the trained encoder, and draws a picture.

    Quick: one classifier of strength 1 each, no sweep.

    Args:
      config: of the run.
      source: its data.
      encoder: the trained model.
      num_classes: of its supervised head: a part of what the seed's initialisation depends on.

    Returns:
      Top-1 accuracies on the evaluation split: probe/raw_pixels, probe/untrained and
      probe/pretrained. Shares of the nearest training images that are of the evaluation image's
      class, over the whole split: neighbours/raw_pixels, neighbours/untrained and
      neighbours/pretrained. neighbours: what was counted, in words. picture: the path of
      neighbours.png.
    """
    from tf_simclr.probes import neighbours  # matplotlib takes a second

    _say("Probing raw pixels, the untrained and the pretrained encoder ...")
    encoders = {UNTRAINED: from_config.make_model(config, num_classes), PRETRAINED: encoder}
    train, test = (
        _extract(
            config,
            source,
            encoders,
            split,
            strategy=tf.distribute.get_strategy(),
            num_batches=-(-source.num_examples(split) // config.training.eval_batch_size),
            with_pixels=True,
        )
        for split in (config.data.train_split, config.data.eval_split)
    )
    _report_skipped(config.data.train_split, train)
    few = slice(NEIGHBOUR_CANDIDATES)
    count = min(NEIGHBOURS, len(train.labels))
    results, nearest = {}, {}
    for name in (RAW_PIXELS, UNTRAINED, PRETRAINED):
        of_train, of_test = train.matrix(name), test.matrix(name)
        probe = logistic.fit(of_train, train.labels, iterations=100)
        ranks = probe.ranks(of_test, test.labels)
        results[f"probe/{name}"] = metrics.accuracies(ranks, test.labels)["top_1"]
        nearest[name] = neighbours.nearest(of_train[few], of_test, count)
        results[f"neighbours/{name}"] = neighbours.share_of_hits(
            nearest[name], train.labels[few], test.labels
        )
    trained = "pretrained" if config.training.train_mode == "pretrain" else "fine-tuned"
    picture = neighbours.figure(
        train.images()[few],
        train.labels[few],
        test.images(),
        test.labels,
        {"raw pixels": nearest[RAW_PIXELS], f"{trained} encoder": nearest[PRETRAINED]},
    )
    path = os.path.join(config.runtime.model_dir, "neighbours.png")
    with tf.io.gfile.GFile(path, "wb") as file:
        picture.savefig(file, format="png", dpi=100)
    among = f"Nearest {count} of {len(train.labels[few]):,} training images"
    return results | {"neighbours": among, "picture": path}


def _report_skipped(split: str, found: Features):
    if found.unlabelled:
        total = found.skipped + found.unlabelled + len(found.labels)
        _say(
            f"{found.unlabelled} of {total} examples of split {split} have no label and were left "
            "out"
        )
    if found.skipped:
        total = found.skipped + found.unlabelled + len(found.labels)
        _say(
            f"{found.skipped} of {total} examples of split {split} could not be decoded and were "
            "left out (--strict_data makes this an error)"
        )


def _say(text: str):
    print(text, file=sys.stderr)
