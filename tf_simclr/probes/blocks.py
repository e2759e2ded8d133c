"""Reads features in blocks of rows, because those of ImageNet do not fit in memory as float32."""

import contextlib
import dataclasses
import mmap
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf

BLOCK_BYTES = 2**26  # of a block as float32: 8,192 rows of 2,048 features
MEMORY_BYTES = 2**30  # standardized features up to this size stay in memory


@dataclasses.dataclass(frozen=True)
class _Part:
    """Rows of one array: all of them, or those at `rows`."""

    array: np.ndarray
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.array if self.rows is None else self.rows)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Copies rows start to stop as float32 (m, d). Pixels are scaled to [0, 1]."""
        selected = slice(start, stop) if self.rows is None else self.rows[start:stop]
        block = self.array[selected].astype(np.float32)
        if self.array.dtype == np.uint8:
            block /= 255
        release(self.array)
        return block.reshape(len(block), -1)


class Matrix:
    """Features (n, d) that are read in blocks of rows as float32.

    Attributes:
      shape: (n, d).
    """

    def __init__(self, *arrays: np.ndarray) -> None:
        """Stacks the rows of arrays, which may be memory maps.

        Args:
          arrays: float (n_i, d), or uint8 (n_i, ...): pixels, whose values are divided by 255.
        """
        self._parts = tuple(_Part(array) for array in arrays)
        self.shape = _shape(self._parts)

    def __len__(self) -> int:
        return self.shape[0]

    def select(self, rows: np.ndarray) -> "Matrix":
        """Returns the matrix of some rows, without reading them.

        Args:
          rows: indices (m,) in rising order, so that a file is read from its beginning to its end.
        """
        parts, first = [], 0
        for part in self._parts:
            inside = rows[(rows >= first) & (rows < first + len(part))] - first
            parts.append(_Part(part.array, inside if part.rows is None else part.rows[inside]))
            first += len(part)
        return _of_parts(tuple(parts))

    def stack(self, other: "Matrix") -> "Matrix":
        """Returns the matrix of these rows and, after them, those of another, without reading."""
        return _of_parts(self._parts + other._parts)

    def rows_per_block(self) -> int:
        """Returns the number of rows of a block of BLOCK_BYTES, at least 1."""
        return max(1, BLOCK_BYTES // (4 * max(1, self.shape[1])))

    def blocks(self, max_rows: int | None = None) -> Iterator[tuple[slice, np.ndarray]]:
        """Yields the indices of rows and the rows, float32 (m, d), in order.

        Args:
          max_rows: largest m; None for blocks of BLOCK_BYTES.
        """
        size, first = max_rows or self.rows_per_block(), 0
        for part in self._parts:
            for start in range(0, len(part), size):
                block = part.read(start, min(start + size, len(part)))
                yield slice(first + start, first + start + len(block)), block
            first += len(part)


def as_matrix(features: "np.ndarray | Matrix") -> Matrix:
    """Returns features (n, d) as a Matrix, without a copy."""
    return features if isinstance(features, Matrix) else Matrix(features)


def release(array: np.ndarray) -> None:
    """Takes the pages of a memory map out of this process's memory; they stay in the file.

    Otherwise a pass over a file of 5 GB would end with 5 GB in memory. An array that is not a
    shared map of a file is left alone.
    """
    mapped = getattr(array, "_mmap", None)
    is_shared = getattr(array, "mode", "c") != "c"  # changes to a private copy would be lost
    if mapped is not None and is_shared and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Multiplies float32 matrices in float32 meanwhile, not in TF32 as GPUs do by default."""
    allowed = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(allowed)


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Standardizes features: subtracts the mean, then divides by the standard deviation.

    Attributes:
      mean: float64 (d,).
      deviation: float64 (d,); 1 for a feature that is constant.
    """

    mean: np.ndarray
    deviation: np.ndarray

    def apply(self, block: np.ndarray, dtype: tf.DType = tf.float32) -> tf.Tensor:
        """Returns standardized features (m, d)."""
        mean, scale = tf.constant(self.mean, dtype), tf.constant(1 / self.deviation, dtype)
        return _standardize(tf.cast(block, dtype), mean, scale)


class Standardized:
    """Standardized features, which stay in memory if they are small."""

    def __init__(
        self, features: Matrix, scaling: Scaling, *, width: int = 1, dtype: tf.DType = tf.float32
    ) -> None:
        """Standardizes the features if they fit in MEMORY_BYTES.

        Larger ones are read and standardized again in every pass.

        Args:
          features: (n, d).
          scaling: the standardization.
          width: number of values that the caller computes from each row. Neither these nor the
            features of a block exceed BLOCK_BYTES.
          dtype: float32 or float64.
        """
        self.shape = features.shape
        self.dtype = dtype
        self._features, self._scaling = features, scaling
        self._block_rows = max(1, BLOCK_BYTES // (4 * max(features.shape[1], width, 1)))
        num_bytes = dtype.size * features.shape[0] * features.shape[1]
        self._kept = list(self._read()) if num_bytes <= MEMORY_BYTES else None

    def blocks(self) -> Iterable[tuple[slice, tf.Tensor]]:
        """Returns the indices of rows and the rows (m, d), block by block."""
        return self._read() if self._kept is None else self._kept

    def _read(self) -> Iterator[tuple[slice, tf.Tensor]]:
        for rows, block in self._features.blocks(self._block_rows):
            yield rows, self._scaling.apply(block, self.dtype)


def measure_scaling(features: Matrix) -> Scaling:
    """Computes mean and standard deviation of each feature in one pass.

    The numbers are those of scikit-learn's StandardScaler: float64, and blocks are merged as by
    Chan, Golub and LeVeque ("Updating formulae and a pairwise algorithm for computing sample
    variances", 1979).

    Raises:
      ValueError: a feature is not a finite number.
    """
    count, mean, total = 0, np.zeros(features.shape[1]), np.zeros(features.shape[1])
    for _, block in features.blocks():
        block_mean, block_total = (value.numpy() for value in _moments(block))
        merged = count + len(block)
        if not np.isfinite(block_total).all():
            raise ValueError("the features hold values that are not finite numbers")
        difference = block_mean - mean
        total += block_total + difference**2 * (count * len(block) / merged)
        mean += difference * (len(block) / merged)
        count = merged
    variance = total / count
    # Rounding can leave a constant feature with a tiny variance. The bound is scikit-learn's.
    epsilon = np.finfo(np.float64).eps
    is_constant = variance <= count * epsilon * variance + (count * mean * epsilon) ** 2
    return Scaling(mean, np.where(is_constant, 1.0, np.sqrt(variance)))


@tf.function(reduce_retracing=True)
def _moments(block: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the mean of each column and the sum of squared deviations from it, float64 (d,)."""
    values = tf.cast(block, tf.float64)
    mean = tf.reduce_mean(values, axis=0)
    return mean, tf.reduce_sum(tf.math.squared_difference(values, mean), axis=0)


@tf.function(reduce_retracing=True)
def _standardize(block: tf.Tensor, mean: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    return (block - mean) * scale


def _of_parts(parts: tuple[_Part, ...]) -> Matrix:
    matrix = Matrix.__new__(Matrix)
    matrix._parts, matrix.shape = parts, _shape(parts)
    return matrix


def _shape(parts: tuple[_Part, ...]) -> tuple[int, int]:
    first = parts[0].array
    return sum(map(len, parts)), int(np.prod(first.shape[1:]))
