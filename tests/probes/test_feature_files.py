"""Features in files: mapped, written once, resumed, and replaced if they are not ours."""

import json
import os

import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.data import errors
from tf_simclr.data.batch import EvalBatch
from tf_simclr.probes import feature_cache, feature_files, features
from tf_simclr.probes.feature_files import FeatureWriter
from tf_simclr.probes.features import RAW_PIXELS

NUM_EXAMPLES, BATCH = 22, 4


def read_batches(first=0, last=None, *, unlabelled=(3, 9), read=None):
    """A dataset of the batches from `first` to `last`; counts those read in the list `read`."""
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(NUM_EXAMPLES, 2, 2, 3)).astype(np.float32) / 255
    one_hot = np.eye(5, dtype=np.float32)[rng.integers(5, size=NUM_EXAMPLES)]
    one_hot[list(unlabelled)] = 0
    padding = ((0, -NUM_EXAMPLES % BATCH), (0, 0))
    weights = np.pad(np.ones(NUM_EXAMPLES, np.float32), padding[0])
    all_batches = EvalBatch(
        np.pad(images, (*padding, (0, 0), (0, 0))),
        np.pad(one_hot, padding),
        weights,
        np.zeros_like(weights),
    )
    for number in range(first, len(weights) // BATCH if last is None else last):
        if read is not None:
            read.append(number)
        yield EvalBatch(*(tf.constant(a[BATCH * number :][:BATCH]) for a in all_batches))


def extract(writer, batches) -> features.Features:
    return features.extract(
        tf.distribute.get_strategy(),
        {"a/b": lambda images, training: {"final_avg_pool": tf.reduce_mean(images, [1, 2])}},
        batches,
        num_batches=-(-NUM_EXAMPLES // BATCH),
        with_pixels=True,
        description="features of test",
        store=writer,
    )


def cached(folder, key="key", *, batch_size=BATCH, make=None, read=None):
    def all_missing(writer):
        return extract(writer, read_batches(writer.num_batches, read=read))

    return feature_cache.cached(
        str(folder), key, make or all_missing, num_examples=NUM_EXAMPLES, batch_size=batch_size
    )


def interrupt_after(batches: int):
    """A function that extracts some batches and is then interrupted."""

    def make(writer):
        def some():
            yield from read_batches(writer.num_batches, writer.num_batches + batches)
            raise KeyboardInterrupt

        return extract(writer, some())

    return make


def assert_equal(first, second):
    assert first.arrays.keys() == second.arrays.keys() == {"a/b", RAW_PIXELS}
    for name, array in first.arrays.items():
        assert array.dtype == second.arrays[name].dtype
        np.testing.assert_array_equal(array, second.arrays[name])
    np.testing.assert_array_equal(first.labels, second.labels)
    assert (first.skipped, first.unlabelled) == (second.skipped, second.unlabelled)


def test_features_are_extracted_once_and_then_mapped(tmp_path):
    read = []
    first, from_file = cached(tmp_path / "features", read=read)
    assert not from_file and len(read) == 6
    assert first.unlabelled == 2 and len(first.labels) == NUM_EXAMPLES - 2
    again, from_file = cached(tmp_path / "features", read=read)
    assert from_file and len(read) == 6
    assert all(isinstance(array, np.memmap) for array in again.arrays.values())
    assert_equal(first, again)
    assert_equal(extract(None, read_batches()), again)
    _, from_file = cached(tmp_path / "features", "other key", read=read)
    assert not from_file and len(read) == 12


@pytest.mark.parametrize("batches", [0, 1, 5])
@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_an_interrupted_extraction_goes_on(tmp_path, batches, seconds, monkeypatch):
    monkeypatch.setattr(feature_files, "SAVE_SECONDS", seconds)
    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, make=interrupt_after(batches))
    read = []
    result, from_file = cached(tmp_path, read=read)
    assert not from_file and read == list(range(batches, 6))
    assert_equal(result, extract(None, read_batches()))
    assert [".unfinished" in name for name in os.listdir(tmp_path)] == [False]


def test_it_may_be_interrupted_more_than_once(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            cached(tmp_path, make=interrupt_after(2))
    read = []
    result, _ = cached(tmp_path, read=read)
    assert read == [4, 5]
    assert_equal(result, extract(None, read_batches()))


def test_rows_behind_the_last_saved_batch_are_written_again(tmp_path, monkeypatch):
    """A crash: state.json is older than the arrays."""
    monkeypatch.setattr(feature_files, "SAVE_SECONDS", 1e9)
    writer = FeatureWriter(
        str(tmp_path / "features"), "key", num_examples=NUM_EXAMPLES, batch_size=BATCH
    )
    part = {"labels": np.arange(4), "a/b": np.ones((4, 3), np.float32)}
    writer.append(part, {"skipped": 0, "unlabelled": 0})
    writer.save()
    writer.append(part, {"skipped": 0, "unlabelled": 0})
    for file in writer._files.values():
        file.flush()
    again = FeatureWriter(
        str(tmp_path / "features"), "key", num_examples=NUM_EXAMPLES, batch_size=BATCH
    )
    assert (again.num_batches, again.num_kept) == (1, 4)
    again.append({name: 2 * array for name, array in part.items()}, {"skipped": 1, "unlabelled": 0})
    result = again.finish()
    assert result.labels.tolist() == [0, 1, 2, 3, 0, 2, 4, 6] and result.skipped == 1
    assert result.arrays["a/b"][:, 0].tolist() == [1] * 4 + [2] * 4


@pytest.mark.parametrize("other", [{"batch_size": 2 * BATCH}, {"key": "other"}])
def test_unfinished_features_of_other_settings_are_not_continued(tmp_path, other):
    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, make=interrupt_after(2))
    # As if, by chance, both keys had the same name.
    [name] = os.listdir(tmp_path)
    settings = {"key": "key", "batch_size": BATCH} | other
    folder = str(tmp_path / name).removesuffix(".unfinished")
    writer = FeatureWriter(folder, num_examples=NUM_EXAMPLES, **settings)
    assert writer.num_batches == 0


def test_large_features_are_float16_and_stay_finite(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_files, "FLOAT32_BYTES", 4 * NUM_EXAMPLES * 3 - 1)
    values = np.float32([[1 / 3, 1e6, np.nan], [-1e6, 65504, np.inf]])

    def make(writer):
        part = {"labels": np.arange(2), "large": values, "small": values[:, :2]}
        writer.append(part, {"skipped": 0, "unlabelled": 0})
        return writer.finish()

    result, _ = cached(tmp_path, make=make)
    assert result.arrays["large"].dtype == np.float16
    assert result.arrays["small"].dtype == np.float32
    expected = np.float16([[1 / 3, 65504, np.nan], [-65504, 65504, np.inf]])
    np.testing.assert_array_equal(result.arrays["large"], expected)
    assert result.matrix("large").dtype == np.float32


def damage(path, how):
    state = json.loads((path / "state.json").read_text())
    if how == "no state":
        (path / "state.json").unlink()
    elif how == "half a state":
        (path / "state.json").write_text(json.dumps(state)[:40])
    elif how == "another key":
        (path / "state.json").write_text(json.dumps(state | {"key": "other"}))
    elif how == "a state of something else":
        (path / "state.json").write_text(json.dumps({"names": 3}))
    elif how == "too many rows":
        (path / "state.json").write_text(json.dumps(state | {"kept": 10**6}))
    elif how == "no number":
        (path / "state.json").write_text(json.dumps(state | {"kept": "4"}))
    elif how == "half an array":
        os.truncate(path / "features_a%2Fb.npy", 150)
    elif how == "an empty array":
        os.truncate(path / "labels.npy", 0)
    elif how == "no array":
        (path / "labels.npy").unlink()
    elif how == "a pickle":
        np.save(path / "labels.npy", np.array([{}], object), allow_pickle=True)
    else:
        assert how == "a file"
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
        path.write_text("not a folder")


@pytest.mark.parametrize(
    "how",
    [
        "no state",
        "half a state",
        "another key",
        "a state of something else",
        "too many rows",
        "no number",
        "half an array",
        "an empty array",
        "no array",
        "a pickle",
        "a file",
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_a_damaged_folder_is_replaced(tmp_path, how, finished):
    if finished:
        cached(tmp_path)
    else:
        with pytest.raises(KeyboardInterrupt):
            cached(tmp_path, make=interrupt_after(2))
    [name] = os.listdir(tmp_path)
    damage(tmp_path / name, how)
    read = []
    result, from_file = cached(tmp_path, read=read)
    assert not from_file and read == list(range(6))
    assert_equal(result, extract(None, read_batches()))
    assert cached(tmp_path)[1]
    assert len(os.listdir(tmp_path)) == 1


def test_nothing_but_bad_examples_is_an_error_each_time(tmp_path):
    def make(writer):
        bad = range(NUM_EXAMPLES)
        return extract(writer, read_batches(writer.num_batches, unlabelled=bad))

    for _ in range(2):
        with pytest.raises(errors.UndecodableError, match="not one example has a label"):
            cached(tmp_path, make=make)


def test_a_remote_folder_is_copied(tmp_path):
    """file:// stands for gs:// and others, which cannot be mapped either."""
    folder = f"file://{tmp_path}/features"
    read = []
    first, from_file = cached(folder, read=read)
    assert not from_file and len(read) == 6
    again, from_file = cached(folder, read=read)
    assert from_file and len(read) == 6
    assert_equal(first, again)
    [path] = (tmp_path / "features").iterdir()
    (path / "state.json").unlink()
    assert not cached(folder)[1] and cached(folder)[1]
