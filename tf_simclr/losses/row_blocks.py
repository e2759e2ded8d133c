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

    def take(self, tensor: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
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


class Circle(RowBlocks):
    """Blocks of rows in a circle.

    Attributes:
      window_rows: rows that follow a block and that it meets.
      shared_rows: the first of these, whose similarities no other block computes.
    """

    def __init__(self, n: int, block_rows: int):
        super().__init__(n, block_rows)
        half = self.count // 2
        self.window_rows = half * self.rows
        self.shared_rows = self.window_rows - (self.rows if self.count % 2 == 0 else 0)

    def positions(self, start: tf.Tensor) -> tf.Tensor:
        """Returns the places int32 (rows,) of the block that begins at row start."""
        return start + tf.range(self.rows)

    def add_to_block(self, sums: tf.Tensor, start: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """Adds values (rows, ...) to sums (padded, ...) at the block."""
        return _add_at(sums, self.positions(start), values)

    def add_to_shared(self, sums: tf.Tensor, start: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """Adds values (shared_rows, ...) to sums (padded, ...) at the shared rows of the window."""
        positions = (start + self.rows + tf.range(self.shared_rows)) % self.padded
        return _add_at(sums, positions, values)

    def for_each_block(self, function: Callable[..., list], variables: list) -> list:
        """Calls function(start, *variables) -> variables for each block in turn."""

        def body(start, *variables):
            return [start + self.rows, *function(start, *variables)]

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


class Ring:
    """Rows of a tensor on a circle of blocks.

    Attributes:
      rows: (padded, ...).
    """

    def __init__(self, circle: Circle, tensor: tf.Tensor):
        """Takes a tensor (n, ...)."""
        self.rows = circle.pad(tensor)
        self._circle = circle
        self._twice = tf.concat([self.rows, self.rows], axis=0)  # so that no window is cut in two

    def block(self, start: tf.Tensor) -> tf.Tensor:
        """Returns the block that begins at row start: (rows, ...)."""
        return self._circle.take(self.rows, start)

    def window(self, start: tf.Tensor) -> tf.Tensor:
        """Returns the rows that follow this block: (window_rows, ...)."""
        return take_rows(self._twice, start + self._circle.rows, self._circle.window_rows)


def take_rows(tensor: tf.Tensor, start: tf.Tensor, count: int) -> tf.Tensor:
    """Slices the first axis: (m, ...) -> (count, ...)."""
    begin = [start] + [0] * (tensor.shape.rank - 1)
    return tf.slice(tensor, begin, [count, *tensor.shape[1:]])
