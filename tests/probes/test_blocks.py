"""Features in blocks: which rows, which numbers, and how many at a time."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from tf_simclr.probes import blocks
from tf_simclr.probes.blocks import Matrix, Scaling, Standardized

RNG = np.random.default_rng(0)


def joined(matrix: Matrix, max_rows=None) -> np.ndarray:
    parts, expected = [], 0
    for rows, block in matrix.blocks(max_rows):
        assert (rows.start, rows.stop) == (expected, expected + len(block))
        assert block.dtype == np.float32 and (max_rows is None or len(block) <= max_rows)
        expected = rows.stop
        parts.append(block)
    assert expected == len(matrix)
    return np.concatenate(parts)


@pytest.fixture
def mapped(tmp_path):
    """A function that puts an array into a file and returns its memory map."""

    def save(array, name="array.npy"):
        np.save(tmp_path / name, array)
        return np.load(tmp_path / name, mmap_mode="r")

    return save


@pytest.mark.parametrize("max_rows", [None, 1, 7, 100])
def test_all_rows_come_in_order(max_rows, mapped):
    half = mapped(RNG.normal(size=(30, 5)).astype(np.float16))
    np.testing.assert_array_equal(joined(Matrix(half), max_rows), np.float32(half))
    pixels = mapped(RNG.integers(256, size=(30, 2, 2, 3)).astype(np.uint8))
    expected = (pixels / np.float32(255)).reshape(30, 12)
    assert Matrix(pixels).shape == (30, 12)
    np.testing.assert_array_equal(joined(Matrix(pixels), max_rows), expected)


def test_rows_are_selected_and_stacked():
    first, second = RNG.normal(size=(10, 3)), RNG.normal(size=(4, 3))
    both = Matrix(first).stack(Matrix(second))
    expected = np.concatenate([first, second]).astype(np.float32)
    assert both.shape == (14, 3)
    np.testing.assert_array_equal(joined(both, 4), expected)
    rows = np.array([0, 3, 9, 10, 13])
    few = both.select(rows)
    assert few.shape == (5, 3)
    np.testing.assert_array_equal(joined(few, 2), expected[rows])
    np.testing.assert_array_equal(joined(few.select(np.array([1, 4])), 2), expected[[3, 13]])


def test_a_block_is_bounded_and_a_pass_reads_each_row_once(monkeypatch, mapped):
    """Memory depends on the size of a block, not on the number of rows."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 4 * 6 * 10)
    monkeypatch.setattr(blocks, "MEMORY_BYTES", 4 * 6 * 99)
    read = []
    original = blocks._Part.read

    def counted(part, start, stop):
        read.append(stop - start)
        return original(part, start, stop)

    monkeypatch.setattr(blocks._Part, "read", counted)
    matrix = Matrix(mapped(RNG.normal(size=(100, 6)).astype(np.float16)))
    blocks.measure_scaling(matrix)
    assert read == [10] * 10
    unit = Scaling(np.zeros(6), np.ones(6))
    large = Standardized(matrix, unit)
    wide = Standardized(matrix, unit, width=30)
    assert sum(read) == 100, "nothing is read before it is needed"
    assert [len(block) for _, block in large.blocks()] == [10] * 10
    assert [len(block) for _, block in wide.blocks()] == [2] * 50
    small = Standardized(matrix.select(np.arange(99)), unit)
    assert sum(read) == 399
    assert [len(block) for _, block in small.blocks()] == [10] * 9 + [9]
    assert sum(read) == 399, "small features stay in memory"


def test_pages_of_a_file_leave_the_memory_of_the_process(mapped):
    """Afterwards the numbers are still there."""
    array = mapped(RNG.normal(size=(1000, 1024)).astype(np.float32))
    expected = np.array(array)
    joined(Matrix(array))
    status = "/proc/self/smaps"
    np.testing.assert_array_equal(array, expected)
    blocks.release(array)
    try:
        with open(status) as file:
            content = file.read()
    except OSError:
        pytest.skip("not Linux")
    [entry] = content.split("array.npy")[1:]
    assert entry.split("Rss:")[1].split()[0] == "0"
    private = np.load(array.filename, mmap_mode="c")
    private[0, 0] = 5
    blocks.release(private)
    assert private[0, 0] == 5, "changes to a private copy are kept"


@pytest.mark.parametrize("rows", [3, 17, 1000])
def test_the_scaling_is_scikit_learn_s(rows, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 4 * 6 * rows)
    x = RNG.normal(size=(200, 6)) * [1, 1e-3, 1e3, 1, 1, 1] + [0, 5, 1e4, 0, 0, 0]
    x[:, 3], x[:, 4] = 0.1, 0  # constant
    x[:100, 5], x[100:, 5] = -3, 4
    x = x.astype(np.float32)
    theirs = StandardScaler().fit(x.astype(np.float64))
    scaling = blocks.measure_scaling(Matrix(x))
    np.testing.assert_allclose(scaling.mean, theirs.mean_, rtol=1e-12)
    np.testing.assert_allclose(scaling.deviation, theirs.scale_, rtol=1e-9)
    expected = theirs.transform(x.astype(np.float64))
    np.testing.assert_allclose(scaling.apply(x), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad):
    x = np.ones((10, 3), np.float32)
    x[4, 1] = bad
    with pytest.raises(ValueError, match="not finite"):
        blocks.measure_scaling(Matrix(x))
