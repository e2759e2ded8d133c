"""The input pipeline with settings that tests share, and the order that its examples must have."""

import itertools
from collections.abc import Iterable

import tensorflow as tf

from tf_simclr.data.pipeline import batches, seeds

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
    return batches.train_batches(source, **(settings | changes))


def evaluation(source, **changes) -> tf.data.Dataset:
    """pipeline.eval_batches, of 12 pixels unless the changes say otherwise."""
    settings = dict(split="test", image_size=12, batch_size=8, strict=False)
    return batches.eval_batches(source, **(settings | changes))


def encoded(source, count: int, *, buffer: int, step: int, split: str = "train") -> list[dict]:
    """The first examples of the stream of `train`, encoded, shuffled in a buffer of that size."""
    read = batches._reader(source, split, cache=False, with_id=False, seed=SEED)
    shuffled = (
        read(epoch).shuffle(
            buffer,
            seed=seeds.derive_scalar(SEED, seeds.SHUFFLE, epoch),
            reshuffle_each_iteration=False,
        )
        for epoch in itertools.count()
    )
    return in_batches(map(list, shuffled), count, step, key=lambda x: x["image"].numpy())


def in_batches(epochs: Iterable[list], count: int, step: int, key=lambda x: x) -> list:
    """The first elements of epochs that follow each other, when none may come twice in a batch.

    Of the first `step` elements of an epoch those that the unfinished batch holds already come
    last; the order is otherwise kept.
    """
    stream = []
    for epoch in epochs:
        unfinished = {key(x) for x in stream[len(stream) // step * step :]}
        head = sorted(epoch[:step], key=lambda x: key(x) in unfinished)  # noqa: B023
        stream += head + epoch[step:]
        if len(stream) >= count:
            return stream[:count]
