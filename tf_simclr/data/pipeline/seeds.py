"""Derives the input pipeline's random seeds from the run's seed, a stream and a position."""

import dataclasses

import tensorflow as tf

from tf_simclr.data.pipeline.settings import WHOLE_SPLIT, Shard

# Numbers of random streams. BOXES and VIEWS are followed by one more stream for the second view.
FILES, SHUFFLE, BOXES, VIEWS = 0, 1, 2, 4


def derive(seed: int, stream: int, index: int | tf.Tensor) -> tf.Tensor:
    """Derives stateless seeds of a random stream, at epochs or positions of any shape (...).

    This is stateless_fold_in for many indices at a time.

    Returns:
      int64 (..., 2).
    """
    stream_key = tf.random.stateless_uniform([], [seed, stream], None, None, tf.int64)
    index = tf.cast(index, tf.int64)
    return tf.stack([tf.broadcast_to(stream_key, tf.shape(index)), index], axis=-1)


def derive_scalar(seed: int, stream: int, index: int | tf.Tensor) -> tf.Tensor:
    """Derives a non-negative int64 scalar, the kind of seed that Dataset.shuffle takes.

    One element of a stateless seed is not enough: only its first element depends on the stream.
    """
    return tf.random.stateless_uniform(
        [], derive(seed, stream, index), maxval=tf.int64.max, dtype=tf.int64
    )


@dataclasses.dataclass(frozen=True)
class Streams:
    """The random streams of one input pipeline's views.

    Attributes:
      seed: the run's seed.
      num_views: views per image.
      shard: this input pipeline. No two shards draw the same numbers.
    """

    seed: int
    num_views: int
    shard: Shard = WHOLE_SPLIT

    def seeds(self, stream: int, index: tf.Tensor) -> list[tf.Tensor]:
        """Derives the seeds of each view, at positions (...) of this input pipeline.

        Returns:
          One tensor per view, int64 (..., 2).
        """
        index = index * self.shard.count + self.shard.index
        return [derive(self.seed, stream + view, index) for view in range(self.num_views)]
