"""Batches: what an epoch contains, where a resumed stream continues, padding, shards."""

import collections
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import streams
from tf_simclr.data.augment import views
from tf_simclr.data.pipeline import groups
from tf_simclr.data.sources import tfds_source
from tf_simclr.errors import ConfigError

REAL_DATA = pathlib.Path(__file__).parents[4] / "shared" / "tfds"
NUM_TRAIN, NUM_TEST, NUM_CLASSES = 26, 11, 26


class TinyPipeline(tfds.core.GeneratorBasedBuilder):
    """Images of one gray level each, 9 * label: any crop tells which example it is."""

    VERSION = tfds.core.Version("1.0.0")
    LABELED = True

    def _info(self):
        features = {"image": tfds.features.Image(shape=(None, None, 1))}
        if self.LABELED:
            features["label"] = tfds.features.ClassLabel(num_classes=NUM_CLASSES)
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._examples(NUM_TRAIN), "test": self._examples(NUM_TEST)}

    def _generate_examples(self):
        raise NotImplementedError

    def _examples(self, count):
        for index in range(count):
            image = np.full((20 + index, 30, 1), 9 * index, np.uint8)
            yield index, {"image": image, **({"label": index} if self.LABELED else {})}


class TinyPipelineUnlabeled(TinyPipeline):
    LABELED = False


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(scope="module")
def source(data_dir):
    # In three files, for the order of files to matter.
    builder = TinyPipeline(data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=3))
    return tfds_source.open_source("tiny_pipeline", data_dir)


def train(source, **changes):
    return streams.train(source, **(dict(batch_size=1, global_batch_size=8) | changes))


def evaluation(source, **changes):
    return streams.evaluation(source, **(dict(batch_size=4) | changes))


def levels(images):
    """Tells which example each image of a fine-tuning or evaluation batch is."""
    return np.round(np.reshape(images, (len(images), -1)).mean(1) * 255 / 9).astype(int).tolist()


def take(dataset, count):
    """Returns images and labels of the first count batches of one example."""
    batches = list(dataset.take(count).as_numpy_iterator())
    images, labels, skipped = (np.concatenate(part) for part in zip(*batches, strict=True))
    assert not skipped.any()
    return images, labels


@pytest.mark.parametrize("cache", [False, True])
def test_each_epoch_holds_each_example_once_in_a_new_order(source, cache):
    images, labels = take(train(source, cache=cache), 4 * NUM_TRAIN)
    order = np.reshape(levels(images), (4, NUM_TRAIN))
    np.testing.assert_array_equal(np.argmax(labels, -1), order.ravel())
    assert (np.sort(order, axis=1) == np.arange(NUM_TRAIN)).all()
    assert len({tuple(epoch) for epoch in order}) == 4


def test_order_depends_on_the_seed(source):
    orders = [levels(take(train(source, seed=seed), NUM_TRAIN)[0]) for seed in (5, 5, 6)]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("cache", [False, True])
def test_resumed_stream_goes_on_exactly(source, cache):
    settings = dict(train_mode="pretrain", cache=cache)
    whole = take(train(source, **settings), 2 * NUM_TRAIN + 35)
    for start in (1, 20, NUM_TRAIN, 2 * NUM_TRAIN + 5):
        rest = take(train(source, start_example=start, **settings), 30)
        for expected, resumed in zip(whole, rest, strict=True):
            np.testing.assert_array_equal(resumed, expected[start : start + 30], err_msg=str(start))


def test_resumed_stream_with_a_small_shuffle_buffer(source):
    # 10 batches of 1 example: the buffer is smaller than the epoch.
    changes = dict(image_size=40, global_batch_size=1)
    whole = take(train(source, **changes), 50)[0]
    rest = take(train(source, start_example=33, **changes), 17)[0]
    np.testing.assert_array_equal(rest, whole[33:])


def test_cache_reads_each_example_once(source, monkeypatch):
    reads = collections.Counter()

    def count(label):
        reads[int(label)] += 1
        return label

    original = tfds_source.TfdsSource.encoded_examples

    def counted(self, *args, **kwargs):
        def tap(x):
            label = tf.py_function(count, [x["label"]], tf.int64)
            return {**x, "label": tf.ensure_shape(label, ())}

        return original(self, *args, **kwargs).map(tap)

    monkeypatch.setattr(tfds_source.TfdsSource, "encoded_examples", counted)
    take(train(source, cache=True), 3 * NUM_TRAIN)
    assert reads == collections.Counter(range(NUM_TRAIN))


def test_epochs_before_the_start_are_not_read(source, monkeypatch):
    opened = []
    original = tfds_source.TfdsSource.encoded_examples

    def counted(self, *args, **kwargs):
        def tap(x):
            tf.py_function(lambda: opened.append(1), [], [])
            return x

        return original(self, *args, **kwargs).map(tap)

    monkeypatch.setattr(tfds_source.TfdsSource, "encoded_examples", counted)
    take(train(source, start_example=10**9), 1)
    assert len(opened) < 4 * NUM_TRAIN


@pytest.mark.parametrize(
    "image_size, global_batch_size, window",
    [(12, 4, NUM_TRAIN), (33, 1, 10), (33, 2, 20)],
)
def test_shuffle_buffer_in_batches(source, monkeypatch, image_size, global_batch_size, window):
    seen = []
    original = tf.data.Dataset.shuffle

    def shuffle(self, buffer_size, **kwargs):
        seen.append(buffer_size)
        return original(self, buffer_size, **kwargs)

    # Only the shuffle of the pipeline: TFDS shuffles the files.
    monkeypatch.setattr(
        tfds_source.TfdsSource,
        "encoded_examples",
        lambda self, split, **_: tf.data.Dataset.from_tensors(
            {"image": "", "label": tf.constant(0, tf.int64)}
        ),
    )
    monkeypatch.setattr(tf.data.Dataset, "shuffle", shuffle)
    train(source, image_size=image_size, global_batch_size=global_batch_size)
    assert seen == [window]


def test_pretraining_batches(source):
    dataset = train(source, train_mode="pretrain", batch_size=4)
    assert dataset.element_spec == (
        tf.TensorSpec((4, 2, 12, 12, 3), tf.float32),
        tf.TensorSpec((4, NUM_CLASSES), tf.float32),
        tf.TensorSpec((4,), tf.float32),
    )
    images, labels, _ = next(iter(dataset))
    assert 0 <= images.numpy().min() and images.numpy().max() <= 1
    assert np.abs(images[:, 0] - images[:, 1]).max() > 0.01
    np.testing.assert_array_equal(np.sum(labels, -1), 1)


def test_finetuning_batches_are_not_distorted(source):
    dataset = train(source, batch_size=4)
    assert dataset.element_spec[0] == tf.TensorSpec((4, 1, 12, 12, 3), tf.float32)
    images, labels, _ = next(iter(dataset))
    expected = np.argmax(labels, -1).reshape(-1, 1, 1, 1, 1) * 9 / 255
    np.testing.assert_allclose(images, np.broadcast_to(expected, images.shape), atol=1e-4)


def test_views_do_not_repeat(source):
    # One example, many epochs: all views differ in color.
    images, _ = take(train(source, train_mode="pretrain", split="train[5:6]"), 12)
    assert len(np.unique(np.round(images.mean((2, 3)), 5).reshape(12, -1), axis=0)) == 12


def test_unlabeled_batches(data_dir):
    source = tfds_source.open_source("tiny_pipeline_unlabeled", data_dir)
    _, labels, _ = next(iter(train(source, train_mode="pretrain", batch_size=4)))
    assert labels.shape == (4, 0) and labels.dtype == tf.float32
    _, labels, weights, _ = next(iter(evaluation(source)))
    assert labels.shape == (4, 0) and weights.shape == (4,)


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize(
    "batch, split",
    [(24, "train"), (7, "train[:9]"), pytest.param(10, "train", marks=pytest.mark.long)],
)
def test_no_image_comes_twice_in_a_batch(source, cache, batch, split):
    """Also where a batch holds the end of an epoch and the beginning of the next."""
    settings = dict(split=split, cache=cache, batch_size=batch, global_batch_size=batch)
    dataset = train(source, train_mode="pretrain", **settings)
    found = [np.argmax(labels, 1) for _, labels, _ in dataset.take(12).as_numpy_iterator()]
    assert all(len(set(labels)) == batch for labels in found)
    late = train(source, train_mode="pretrain", start_example=5 * batch, **settings)
    for expected, (_, labels, _) in zip(found[5:], late.as_numpy_iterator(), strict=False):
        np.testing.assert_array_equal(np.argmax(labels, 1), expected)


def test_no_image_comes_twice_in_the_batch_of_several_replicas(source):
    """The replicas take their parts of the batch one after the other."""
    dataset = train(source, batch_size=6, global_batch_size=24)
    labels = [np.argmax(batch[1], 1) for batch in dataset.take(40).as_numpy_iterator()]
    for step in np.reshape(labels, (10, 24)):
        assert len(set(step)) == 24


def test_batches_larger_than_the_split_span_epochs(source):
    images, _, _ = next(
        iter(train(source, batch_size=2 * NUM_TRAIN, global_batch_size=2 * NUM_TRAIN))
    )
    assert sorted(levels(images)) == sorted(2 * list(range(NUM_TRAIN)))


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize(
    "sizes",
    [[9, 9, 8], *(pytest.param(s, marks=pytest.mark.long) for s in ([13, 13], [7, 7, 6, 6]))],
)
def test_shards_divide_each_epoch(source, cache, sizes):
    shards = [
        train(source, num_shards=len(sizes), shard_index=index, cache=cache)
        for index in range(len(sizes))
    ]
    for epoch in range(2):
        seen = []
        for shard, size in zip(shards, sizes, strict=True):
            images, _ = take(shard.skip(epoch * size), size)
            seen += levels(images)
        assert sorted(seen) == list(range(NUM_TRAIN))


def test_shard_resumes(source):
    shard = dict(train_mode="pretrain", num_shards=4, shard_index=1)
    whole = take(train(source, **shard), 24)[0]
    rest = take(train(source, start_example=9, **shard), 15)[0]
    np.testing.assert_array_equal(rest, whole[9:])


def test_a_shard_opens_only_the_files_that_its_part_lies_in(source, tmp_path):
    folder = pathlib.Path(source._builder.data_dir)
    copy = tmp_path / folder.relative_to(folder.parents[1])
    shutil.copytree(folder, copy)
    # 26 examples in three files of 8 or 9: the first of three parts lies in the first file or two.
    (copy / "tiny_pipeline-train.tfrecord-00002-of-00003").unlink()
    lame = tfds_source.open_source("tiny_pipeline", str(tmp_path))
    assert len(take(train(lame, num_shards=3, shard_index=0), 9)[0]) == 9
    with pytest.raises(tf.errors.NotFoundError):
        take(train(lame, num_shards=3, shard_index=2), 9)


@pytest.mark.parametrize(
    "split, sizes",
    [("test", [11]), ("test", [6, 5]), ("test", [4, 4, 3]), ("test[:5]+test[7:]", [3, 3, 3])],
)
def test_evaluation_is_one_pass_in_order(source, split, sizes):
    num_shards = len(sizes)
    num_batches = -(-sizes[0] // 4)
    whole = []
    for index, size in enumerate(sizes):
        batches = list(evaluation(source, split=split, num_shards=num_shards, shard_index=index))
        assert len(batches) == num_batches
        assert all(batch[0].shape == (4, 12, 12, 3) for batch in batches)
        images, labels, weights, skipped = (
            np.concatenate(part) for part in zip(*batches, strict=True)
        )
        assert not skipped.any()
        part = source.part_of_split(split, num_shards, index)
        expected = [int(x["label"]) for x in source.examples(part)]
        assert weights.tolist() == [1] * size + [0] * (len(weights) - size)
        assert levels(images)[:size] == expected
        assert np.argmax(labels, -1)[:size].tolist() == expected
        assert not labels[size:].any() and not images[size:].any()
        whole += expected
    assert sorted(whole) == sorted(int(x["label"]) for x in source.examples(split))


@pytest.mark.parametrize("num_shards", [1, 2])
def test_an_evaluation_goes_on_without_decoding_what_it_skips(source, num_shards, monkeypatch):
    monkeypatch.setattr(groups, "examples_in_group", lambda spec: 1)
    for index in range(num_shards):
        shard = dict(split="train", num_shards=num_shards, shard_index=index)
        everything = list(evaluation(source, **shard))
        for first in (1, len(everything) - 1, len(everything)):
            missing = list(evaluation(source, **shard, first_batch=first))
            assert len(missing) == len(everything) - first
            for batch, expected in zip(missing, everything[first:], strict=True):
                for ours, theirs in zip(batch, expected, strict=True):
                    np.testing.assert_array_equal(ours, theirs)
    decoded, decode = [], source.decode

    def counted(encoded):
        tf.py_function(lambda: decoded.append(1), [], [])
        return decode(encoded)

    monkeypatch.setattr(type(source), "decode", lambda self, encoded: counted(encoded))
    assert len(list(evaluation(source, split="train[:8]", first_batch=1))) == 1
    assert len(decoded) == 4


def test_evaluation_view_is_used(source):
    example = next(iter(source.examples("test")))
    batch = next(iter(evaluation(source, image_size=40, batch_size=2)))
    expected = views.evaluation_view(example["image"], image_size=40)
    np.testing.assert_allclose(batch[0][0], expected, atol=1e-6)


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(split="validation"), "--train_split=validation"),
        (dict(train_mode="supervise"), "train_mode"),
        (dict(num_shards=40, shard_index=1), "--train_split=train has 26 examples"),
        (dict(num_shards=2, shard_index=2), "index must be in"),
    ],
)
def test_errors(source, changes, words):
    with pytest.raises(ConfigError, match=words):
        train(source, **changes)


def test_evaluation_error_names_its_flag(source):
    with pytest.raises(ConfigError, match="--eval_split=validation"):
        evaluation(source, split="validation")


@pytest.mark.skipif(not (REAL_DATA / "imagenet2012").exists(), reason="no prepared data sets")
def test_photographs_of_any_size():
    source = tfds_source.open_source("imagenet2012", str(REAL_DATA))
    images, labels, _ = next(
        iter(train(source, train_mode="pretrain", image_size=64, batch_size=4, split="train[:8]"))
    )
    assert images.shape == (4, 2, 64, 64, 3) and labels.shape == (4, 1000)
    batches = list(evaluation(source, split="validation[:5]", image_size=64))
    assert [float(tf.reduce_sum(batch[2])) for batch in batches] == [4, 1]
