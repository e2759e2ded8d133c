"""Cuts the n rows of a tensor into blocks of equal size."""

from collections.abc import Callable, Sequence

import tensorflow as tf


class RowBlocks:
    """Division of n rows into blocks of equal size. Zeros pad the last block.

    Attributes:
      n: rows without padding.
      count: number of blocks.
      rows_per_block: rows in each block.
      padded: count * rows_per_block, at least n.
    """

    def __init__(self, n: int, block_rows: int):
        """Splits n rows into as few blocks of at most block_rows rows as possible."""
        self.n = n
        self.count = -(-n // block_rows)
        self.rows_per_block = -(-n // self.count)
        self.padded = self.count * self.rows_per_block

    def pad(self, tensor: tf.Tensor) -> tf.Tensor:
        """Appends zeros: (n, ...) -> (padded, ...)."""
        if self.padded == self.n:
            return tensor
        paddings = [[0, self.padded - self.n]] + [[0, 0]] * (len(tensor.shape) - 1)
        return tf.pad(tensor, paddings)

    def take(self, tensor: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        """Returns the block that begins at row start: (padded, ...) -> (rows, ...)."""
        return take_rows(tensor, start, self.rows_per_block)

    def diagonal(self, columns: tf.Tensor) -> tf.Tensor:
        """Returns the indices int32 (rows, 2) of one element per row: row i, column columns[i]."""
        return tf.stack([tf.range(self.rows_per_block), columns], axis=1)

    def map(
        self,
        function: Callable[[tf.Tensor], Sequence[tf.Tensor]],
        dtypes: Sequence[tf.DType],
        *,
        width: int | None = None,
    ) -> list[tf.Tensor]:
        """Calls function(start) for each block in turn, and joins its results over all n rows.

        Args:
          function: takes the index of a block's first row and returns tensors, (rows,) or
            (rows, width).
          dtypes: types of these tensors.
          width: their second dimension, or None for vectors.

        Returns:
          One tensor (n,) or (n, width) for each of the dtypes.
        """
        shape = (self.rows_per_block,) if width is None else (self.rows_per_block, width)
        results = tf.map_fn(
            function,
            tf.range(0, self.padded, self.rows_per_block),
            fn_output_signature=tuple(tf.TensorSpec(shape, dtype) for dtype in dtypes),
            parallel_iterations=1,  # parallel blocks would all be in memory at once
        )
        return [tf.reshape(result, (-1, *shape[1:]))[: self.n] for result in results]


class CircularBlocks(RowBlocks):
    """Division of rows into blocks that are arranged in a circle.

    Attributes:
      window_rows: number of rows after a block that it is compared with.
      shared_rows: number of the first of these rows, whose similarities no other block computes.
    """

    def __init__(self, n: int, block_rows: int):
        super().__init__(n, block_rows)
        half = self.count // 2
        self.window_rows = half * self.rows_per_block
        self.shared_rows = self.window_rows - (self.rows_per_block if self.count % 2 == 0 else 0)

    def positions(self, start: tf.Tensor) -> tf.Tensor:
        """Returns the row indices, int32 (rows,), of the block that begins at row start."""
        return start + tf.range(self.rows_per_block)

    def add_to_block(self, sums: tf.Tensor, start: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """Adds values (rows, ...) to sums (padded, ...) at the block."""
        return _add_at(sums, self.positions(start), values)

    def add_to_shared(self, sums: tf.Tensor, start: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """Adds values (shared_rows, ...) to sums (padded, ...) at the shared rows of the window."""
        positions = (start + self.rows_per_block + tf.range(self.shared_rows)) % self.padded
        return _add_at(sums, positions, values)

    def for_each_block(self, function: Callable[..., list], variables: list) -> list:
        """Calls function(start, *variables) -> variables for each block in turn."""

        def body(start, *variables):
            return [start + self.rows_per_block, *function(start, *variables)]

        _, *variables = tf.while_loop(
            lambda start, *_: start < self.padded,
            body,
            [0, *variables],
            parallel_iterations=1,
            maximum_iterations=self.count,
        )
        return variables


def _add_at(sums, positions, values) -> tf.Tensor:
    return tf.tensor_scatter_nd_add(sums, positions[:, tf.newaxis], values)


class CircularRows:
    """The rows of a tensor, divided by CircularBlocks.

    Attributes:
      rows: the padded tensor, (padded, ...).
    """

    def __init__(self, circle: CircularBlocks, tensor: tf.Tensor):
        """Pads a tensor (n, ...)."""
        self.rows = circle.pad(tensor)
        self._circle = circle
        self._twice = tf.concat([self.rows, self.rows], axis=0)  # a window never wraps around

    def block(self, start: tf.Tensor) -> tf.Tensor:
        """Returns the block that begins at row start: (rows, ...)."""
        return self._circle.take(self.rows, start)

    def window(self, start: tf.Tensor) -> tf.Tensor:
        """Returns the rows after the block that begins at row start: (window_rows, ...)."""
        return take_rows(self._twice, start + self._circle.rows_per_block, self._circle.window_rows)


def take_rows(tensor: tf.Tensor, start: tf.Tensor, count: int) -> tf.Tensor:
    """Slices the first axis: (m, ...) -> (count, ...)."""
    begin = [start] + [0] * (tensor.shape.rank - 1)
    return tf.slice(tensor, begin, [count, *tensor.shape[1:]])
