"""The input pipeline with settings that tests share, and the order that its examples must have."""

import itertools
from collections.abc import Iterable

import tensorflow as tf

from tf_simclr.data.pipeline import batches, seeds
from tf_simclr.data.pipeline.settings import Shard, StreamSettings, ViewSettings

SEED = 5


def train(source, **changes) -> tf.data.Dataset:
    """Makes training batches, for fine-tuning on 12 pixels unless the changes say otherwise."""
    settings = dict(split="train", batch_size=16, global_batch_size=16, seed=SEED)
    views = dict(
        train_mode="finetune",
        image_size=12,
        color_jitter_strength=1.0,
        color_jitter_impl="simclrv2",
        augment_on_device=False,
    )
    views |= {name: changes.pop(name) for name in views.keys() & changes.keys()}
    settings = StreamSettings(**(settings | _with_shard(changes)))
    return batches.train_batches(source, settings, ViewSettings(**views))


def evaluation(source, **changes) -> tf.data.Dataset:
    """Makes evaluation batches, of 12 pixels unless the changes say otherwise."""
    settings = dict(split="test", image_size=12, batch_size=8, strict=False)
    return batches.eval_batches(source, **(settings | _with_shard(changes)))


def _with_shard(changes: dict) -> dict:
    """Replaces num_shards and shard_index by a Shard."""
    shard = Shard(changes.pop("shard_index", 0), changes.pop("num_shards", 1))
    return changes | {"shard": shard}


def encoded(source, count: int, *, buffer: int, step: int, split: str = "train") -> list[dict]:
    """Reads the first examples of the stream of `train`, shuffled in a buffer of that size."""

    def read(epoch: int) -> tf.data.Dataset:
        files_seed = seeds.derive_scalar(SEED, seeds.FILES, epoch)
        return source.encoded_examples(split, shuffle_files=True, seed=files_seed)

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
    """Joins epochs where no element may come twice in a batch, and returns the first elements.

    Among the first `step` elements of an epoch, those that the unfinished batch already holds come
    last. The order is otherwise kept.
    """
    stream = []
    for epoch in epochs:
        unfinished = {key(x) for x in stream[len(stream) // step * step :]}
        head = sorted(epoch[:step], key=lambda x: key(x) in unfinished)  # noqa: B023
        stream += head + epoch[step:]
        if len(stream) >= count:
            return stream[:count]
