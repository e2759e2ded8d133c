"""Cuts the n rows of a tensor into blocks of equal size."""

from collections.abc import Callable, Sequence

import tensorflow as tf


class RowBlocks:
    """n rows in blocks of equal size. Zeros pad the last block.

    Attributes:
      n: rows without padding.
      count: number of blocks.
      rows: rows in each block.
      padded: count * rows, at least n.
    """

    def __init__(self, n: int, block_rows: int):
        """Splits n rows into as few blocks of at most block_rows rows as possible."""
        self.n = n
        self.count = -(-n // block_rows)
        self.rows = -(-n // self.count)
        self.padded = self.count * self.rows

    def pad(self, tensor: tf.Tensor) -> tf.Tensor:
        """Appends zeros: (n, ...) -> (padded, ...)."""
        if self.padded == self.n:
            return tensor
        paddings = [[0, self.padded - self.n]] + [[0, 0]] * (len(tensor.shape) - 1)
        return tf.pad(tensor, paddings)

    def take(self, tensor: tf.Tensor, start) -> tf.Tensor:
        """Returns the block that begins at row start: (padded, ...) -> (rows, ...)."""
        return take_rows(tensor, start, self.rows)

    def diagonal(self, columns: tf.Tensor) -> tf.Tensor:
        """Returns the indices int32 (rows, 2) of one element per row: row i, column columns[i]."""
        return tf.stack([tf.range(self.rows), columns], axis=1)

    def map(
        self,
        function: Callable[[tf.Tensor], Sequence[tf.Tensor]],
        dtypes: Sequence[tf.DType],
        *,
        width: int | None = None,
    ) -> list[tf.Tensor]:
        """Calls function(start) for each block in turn, and joins its results over all n rows.

        Args:
          function: takes the first row of a block; returns tensors (rows,) or (rows, width).
          dtypes: types of these tensors.
          width: their second dimension, or None for vectors.

        Returns:
          One tensor (n,) or (n, width) for each of the dtypes.
        """
        shape = (self.rows,) if width is None else (self.rows, width)
        results = tf.map_fn(
            function,
            tf.range(0, self.padded, self.rows),
            fn_output_signature=tuple(tf.TensorSpec(shape, dtype) for dtype in dtypes),
            parallel_iterations=1,  # parallel blocks would all be in memory at once
        )
        return [tf.reshape(result, (-1, *shape[1:]))[: self.n] for result in results]


def take_rows(tensor: tf.Tensor, start, count: int) -> tf.Tensor:
    """Slices the first axis: (m, ...) -> (count, ...)."""
    begin = [start] + [0] * (tensor.shape.rank - 1)
    return tf.slice(tensor, begin, [count, *tensor.shape[1:]])
