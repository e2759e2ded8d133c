"""The input pipeline with settings that tests share, and the order that its examples must have."""

import itertools
from collections.abc import Iterator

import tensorflow as tf

from tf_simclr.data import pipeline, seeds

SEED = 5


def train(source, **changes) -> tf.data.Dataset:
    """pipeline.train_batches, of fine-tuning on 12 pixels unless the changes say otherwise."""
    settings = dict(
        split="train",
        train_mode="finetune",
        image_size=12,
        batch_size=16,
        global_batch_size=16,
        color_jitter_strength=1.0,
        color_jitter_impl="simclrv2",
        cache=False,
        strict=False,
        seed=SEED,
    )
    return pipeline.train_batches(source, **(settings | changes))


def evaluation(source, **changes) -> tf.data.Dataset:
    """pipeline.eval_batches, of 12 pixels unless the changes say otherwise."""
    settings = dict(split="test", image_size=12, batch_size=8, strict=False)
    return pipeline.eval_batches(source, **(settings | changes))


def encoded(source, count: int, *, buffer: int, split: str = "train") -> Iterator[dict]:
    """The first examples of the stream of `train`, encoded, shuffled in a buffer of that size."""
    read = pipeline._reader(source, split, cache=False, with_id=False, seed=SEED)
    epochs = (
        read(epoch).shuffle(
            buffer, seed=seeds.derive_scalar(SEED, seeds.SHUFFLE, epoch),
            reshuffle_each_iteration=False,
        )
        for epoch in itertools.count()
    )  # fmt: skip
    return itertools.islice(itertools.chain.from_iterable(epochs), count)
