"""The order of the training examples: one endless stream of epochs.

Each epoch holds each example once, newly shuffled. A batch may hold the end of one epoch and the
start of the next. An image from that end must not come again in the same batch, otherwise it would
be its own negative.
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from tf_simclr.data.pipeline import seeds

_NO_EXAMPLE = -1  # fills unused elements of a tensor of example ids
_ALL_HASHES = 2**63 - 1


@dataclasses.dataclass(frozen=True)
class Order:
    """The order of one input pipeline's examples.

    The order depends only on these attributes, so a stream can be entered anywhere.

    Attributes:
      num_examples: examples per epoch.
      step_size: examples per step in this pipeline. Steps begin at its multiples.
      start_example: number of examples that were consumed before.
      buffer: size of the shuffle buffer in examples.
      seed: seed of the run.
    """

    num_examples: int
    step_size: int
    start_example: int
    buffer: int
    seed: int

    @property
    def needs_full_history(self) -> bool:
        """Returns whether the order of an epoch depends on all earlier epochs.

        In an epoch of fewer than two batches, the examples that were reordered at its start are
        also among its last ones. They decide the order of the next epoch, so all orders must be
        recomputed from the first epoch. That is fast on indices, so such streams use `indices`.
        """
        return self._straddles and self.num_examples < 2 * self.step_size

    @property
    def _straddles(self) -> bool:
        """Returns whether some batches hold examples of two epochs."""
        return bool(self.num_examples % self.step_size)

    def indices(self) -> tf.data.Dataset:
        """Makes the stream of example indices in [0, num_examples), int64 ()."""

        def next_epoch(recent_ids: tf.Tensor, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            indices = self._shuffled(tf.data.Dataset.range(self.num_examples), epoch)
            indices = indices.batch(self.num_examples).get_single_element()
            epoch_start = indices[: self.step_size]
            order = _order_of_epoch_start(epoch_start, recent_ids, self._carried(epoch))
            indices = tf.concat([tf.gather(epoch_start, order), indices[self.step_size :]], axis=0)
            return _latest(recent_ids, indices), indices

        first_epoch, start_epoch, position = self._entry()
        epochs = tf.data.Dataset.range(start_epoch, tf.int64.max)
        epochs = epochs.scan(self._no_recent_ids(), _plain(next_epoch)).skip(
            first_epoch - start_epoch
        )
        return epochs.prefetch(1).unbatch().skip(position)

    def examples(self, read: Callable[[tf.Tensor], tf.data.Dataset]) -> tf.data.Dataset:
        """Makes the stream of the examples themselves. Not for orders that need the full history.

        Args:
          read: (epoch, int64 ()) -> Dataset of the epoch's examples, {"image": string (), ...}.
            Examples are identified by the bytes of their images.
        """
        first_epoch, start_epoch, position = self._entry()
        epochs = tf.data.Dataset.range(start_epoch, tf.int64.max)
        if not self._straddles:
            stream = epochs.flat_map(_plain(lambda epoch: self._shuffled(read(epoch), epoch)))
            return stream.skip(position)

        def parts(epoch: tf.Tensor) -> tf.data.Dataset:
            """Cuts the epoch into batches. Only the first one may have to be reordered."""
            batches = self._shuffled(read(epoch), epoch).batch(self.step_size).enumerate()
            return batches.map(lambda part, batch: (epoch, part, batch))

        def next_part(recent_ids: tf.Tensor, element: tuple) -> tuple[tf.Tensor, dict]:
            epoch, part, batch = element
            ids = tf.strings.to_hash_bucket_fast(batch["image"], _ALL_HASHES)
            count = tf.where(part == 0, self._carried(epoch), 0)

            def reordered() -> tuple[tf.Tensor, dict]:
                order = _order_of_epoch_start(ids, recent_ids, count)
                return tf.nest.map_structure(lambda t: tf.gather(t, order), (ids, batch))

            ids, batch = tf.cond(count > 0, reordered, lambda: (ids, batch))
            return _latest(recent_ids, ids), batch

        stream = epochs.flat_map(_plain(parts)).scan(self._no_recent_ids(), _plain(next_part))
        return stream.unbatch().skip((first_epoch - start_epoch) * self.num_examples + position)

    def _entry(self) -> tuple[int, int, int]:
        """Finds where to enter the stream.

        Returns:
          The epoch of the first example, the epoch to start computing with, and the position of the
          example in its epoch. The two epochs differ if the order depends on the previous epoch's
          end.
        """
        first_epoch, position = divmod(self.start_example, self.num_examples)
        if self.needs_full_history:
            return first_epoch, 0, position
        needs_previous = self._carried(first_epoch) > 0 and position < self.step_size
        return first_epoch, first_epoch - 1 if needs_previous else first_epoch, position

    def _carried(self, epoch: int | tf.Tensor) -> int | tf.Tensor:
        """Counts the examples of the previous epoch in the batch in which this epoch starts."""
        return epoch * self.num_examples % self.step_size

    def _shuffled(self, examples: tf.data.Dataset, epoch: tf.Tensor) -> tf.data.Dataset:
        seed = seeds.derive_scalar(self.seed, seeds.SHUFFLE, epoch)
        return examples.shuffle(self.buffer, seed=seed, reshuffle_each_iteration=False)

    def _no_recent_ids(self) -> tf.Tensor:
        return tf.fill([self.step_size], tf.constant(_NO_EXAMPLE, tf.int64))


def _order_of_epoch_start(ids: tf.Tensor, recent_ids: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Moves examples that the batch already holds to the end of an epoch's first examples.

    Args:
      ids: int64 (n,), ids of the epoch's first examples.
      recent_ids: int64 (m,), ids of the examples just before them.
      count: int64 (), how many of the most recent ids are in the same batch.

    Returns:
      int32 (n,), a permutation that otherwise keeps the order.
    """
    positions = tf.range(tf.size(recent_ids, tf.int64))
    recent_ids = tf.where(
        positions >= tf.size(recent_ids, tf.int64) - count, recent_ids, _NO_EXAMPLE
    )
    recent_ids = tf.sort(recent_ids)
    nearest = tf.minimum(tf.searchsorted(recent_ids, ids), tf.size(recent_ids) - 1)
    is_recent = tf.gather(recent_ids, nearest) == ids
    return tf.argsort(tf.cast(is_recent, tf.int32), stable=True)


def _latest(recent_ids: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Appends new ids and keeps the most recent ones, as many as before."""
    return tf.ensure_shape(
        tf.concat([recent_ids, ids], axis=0)[-recent_ids.shape[0] :], recent_ids.shape
    )


def _plain(function: Callable) -> Callable:
    return tf.autograph.experimental.do_not_convert(function)
