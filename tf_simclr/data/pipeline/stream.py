"""The start of both training pipelines: selects and orders examples.

Order and views depend only on the seed, the position in the stream and the sizes of batch and
shard. A training stream can therefore be entered anywhere: a resumed run sees what an uninterrupted
run would have seen.
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from tf_simclr.data.pipeline import epochs, groups, seeds
from tf_simclr.data.pipeline.settings import StreamSettings, ViewSettings
from tf_simclr.data.sources.protocol import Source

# As in the official code, the shuffle buffer holds 50 batches for views up to this side, and 10
# batches for larger views. Here these are global batches, there those of one replica.
_SMALL_IMAGE_MAX_SIZE = 32
_SHUFFLE_BATCHES_SMALL = 50
_SHUFFLE_BATCHES_LARGE = 10


@dataclasses.dataclass(frozen=True)
class Stream:
    """One shard's endless stream of training examples, from its source to groups.

    Examples stay encoded in the shuffle buffer (40,960 examples for ImageNet at batch 4096) and in
    memory. Only `device_crops` keeps decoded images in memory.

    A shard reads only its part of the split, the same in each epoch. (In the official code, every
    worker reads every n-th file.) The parts do not mix: an example is shuffled only within its
    part.

    Attributes:
      source: the data set.
      settings: settings of the stream.
      part: this shard's part of the split, as a split string.
      order: order of the examples.
    """

    source: Source
    settings: StreamSettings
    part: str
    order: epochs.Order

    @classmethod
    def open(cls, source: Source, settings: StreamSettings, views: ViewSettings) -> "Stream":
        """Finds this shard's part of the split and its order.

        Raises:
          ConfigError: unknown split, or fewer examples than shards.
        """
        shard = settings.shard
        part = source.part_of_split(settings.split, shard.count, shard.index, flag="train_split")
        num_examples = source.num_examples(part)
        is_small = views.image_size <= _SMALL_IMAGE_MAX_SIZE
        shuffle_batches = _SHUFFLE_BATCHES_SMALL if is_small else _SHUFFLE_BATCHES_LARGE
        order = epochs.Order(
            num_examples=num_examples,
            step_size=settings.step_size,
            start_example=settings.start_example,
            buffer=min(settings.global_batch_size * shuffle_batches, num_examples),
            seed=settings.seed,
        )
        return cls(source, settings, part, order)

    @property
    def name(self) -> str:
        """Returns the name of the stream for messages."""
        return f"dataset {self.source.name}, split {self.part}"

    def group_size(self, wanted: int) -> int:
        """Returns how many examples to map at a time, if possible at least `wanted`."""
        return groups.group_size(self.settings.step_size, self.settings.batch_size, wanted)

    def read_once(self, epoch: int | tf.Tensor = 0) -> tf.data.Dataset:
        """Reads the part once, with its files in the order of an epoch."""
        return self.source.encoded_examples(
            self.part,
            shuffle_files=True,
            seed=seeds.derive_scalar(self.settings.seed, seeds.FILES, epoch),
            with_id=self.settings.strict,
        )

    def reader(self, *, cache: bool) -> Callable[[tf.Tensor], tf.data.Dataset]:
        """Returns a function from an epoch, int64 (), to the part's encoded examples."""
        if not cache:
            return self.read_once
        # One cache for all epochs. It keeps the order of its first pass, which must not depend on
        # the epoch in which a resumed run starts.
        cached = self.read_once().cache()
        return lambda epoch: cached

    def in_groups(self, examples: tf.data.Dataset, group_size: int) -> tf.data.Dataset:
        """Numbers examples by their positions in the stream, and groups them.

        With a tf.data service, each tf.data worker keeps only the examples of its rounds.

        Returns:
          Dataset of (positions, int64 (group_size,); a group of examples).
        """
        dataset = examples.enumerate(start=self.settings.start_example)
        if self.settings.service:
            dataset = self.settings.service.keep_worker_rounds(dataset, self.settings.batch_size)
        return dataset.batch(group_size, drop_remainder=True)

    def in_batches(self, dataset: tf.data.Dataset, group_size: int) -> tf.data.Dataset:
        """Turns groups into batches; with a tf.data service, its workers make them."""
        dataset = groups.to_batches(dataset, group_size, self.settings.batch_size)
        if self.settings.service:
            dataset = self.settings.service.distribute(dataset)
        # Without a cardinality, TensorFlow checks in each step whether there is another batch.
        return dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
