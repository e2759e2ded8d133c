"""Random numbers of the input pipeline, each a function of the seed, its use and a position."""

import dataclasses

import tensorflow as tf

# Each use of the seed takes its own stream of random numbers; of an image's two views each does.
FILES, SHUFFLE, BOXES, VIEWS = 0, 1, 2, 4


def derive(seed: int, use: int, index: int | tf.Tensor) -> tf.Tensor:
    """Stateless seeds for one use and the epochs or examples (...): int64 (..., 2).

    As stateless_fold_in derives them, of many indices at a time.
    """
    stream = tf.random.stateless_uniform([], [seed, use], None, None, tf.int64)
    index = tf.cast(index, tf.int64)
    return tf.stack([tf.broadcast_to(stream, tf.shape(index)), index], axis=-1)


def derive_scalar(seed: int, use: int, index: int | tf.Tensor) -> tf.Tensor:
    """Likewise a non-negative int64 scalar, as Dataset.shuffle takes it.

    An element of a stateless seed would not do: only one of the two depends on the use.
    """
    return tf.random.stateless_uniform(
        [], derive(seed, use, index), maxval=tf.int64.max, dtype=tf.int64
    )


@dataclasses.dataclass(frozen=True)
class Streams:
    """The random numbers of one input pipeline's views.

    Attributes:
      seed: of the run.
      num_views: of an image.
      num_shards: input pipelines, which never draw the same numbers.
      shard_index: which of them this is.
    """

    seed: int
    num_views: int
    num_shards: int = 1
    shard_index: int = 0

    def seeds(self, use: int, index: tf.Tensor) -> list[tf.Tensor]:
        """One use's seeds of each view at positions (...) of this pipeline: int64 (..., 2)."""
        index = index * self.num_shards + self.shard_index
        return [derive(self.seed, use + i, index) for i in range(self.num_views)]
