"""Extracts the features of a split of a run's data set."""

import sys
from collections.abc import Mapping

import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.data.sources.protocol import Source
from tf_simclr.devices import distributed_data
from tf_simclr.models.simclr import SimCLR
from tf_simclr.probes import features
from tf_simclr.probes.features import NO_EXTRAS, Extras, Features, Store
from tf_simclr.training import run_input


def extract_split(
    config: Config,
    source: Source,
    encoders: Mapping[str, SimCLR],
    split: str,
    strategy: tf.distribute.Strategy,
    *,
    with_pixels: bool,
    extras: Extras = NO_EXTRAS,
    store: Store | None = None,
) -> Features:
    """Runs encoders over a split of the data set (`features.extract`).

    Args:
      config: checked settings.
      source: the data set.
      encoders: {name: model}.
      split: name of the split.
      strategy: the strategy whose replicas share each batch.
      with_pixels: whether to keep the images as well.
      extras: what to extract beside the features.
      store: where to collect the features; None for memory. The batches that it already has are
        neither decoded nor encoded.
    """
    first_batch = store.num_batches if store else 0
    return features.extract(
        strategy,
        encoders,
        distributed_data.distribute(
            strategy,
            lambda context: run_input.eval_batches(
                config, source, split, context, first_batch=first_batch
            ),
        ),
        num_batches=-(-source.num_examples(split) // config.training.eval_batch_size),
        with_pixels=with_pixels,
        description=f"features of {split}",
        extras=extras,
        store=store,
    )


def report_left_out(split: str, extracted: Features) -> None:
    """Prints how many examples of a split were left out, and why."""
    total = extracted.skipped + extracted.unlabelled + len(extracted.labels)
    if extracted.unlabelled:
        print(
            f"{extracted.unlabelled} of {total} examples of split {split} have no label and were "
            "left out",
            file=sys.stderr,
        )
    if extracted.skipped:
        print(
            f"{extracted.skipped} of {total} examples of split {split} could not be decoded and "
            "were left out (--strict_data makes this an error)",
            file=sys.stderr,
        )
