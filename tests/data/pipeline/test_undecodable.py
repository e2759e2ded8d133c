"""Examples that cannot be decoded are replaced, left out or refused; nothing else is hidden."""

import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

import bad_images
import streams
from streams import evaluation, train
from tf_simclr.data import errors
from tf_simclr.data.augment import crop, views
from tf_simclr.data.pipeline import groups, seeds, undecodable
from tf_simclr.data.sources import tfds_source

GOOD_TRAIN = sorted(set(range(bad_images.NUM_TRAIN)) - set(bad_images.BAD_TRAIN))


@pytest.fixture(scope="module")
def source(bad_images_dir):
    return tfds_source.open_source("bad_images", bad_images_dir)


def take(dataset, count=-1):
    """Joins the parts of the first count batches."""
    batches = list(dataset.take(count).as_numpy_iterator())
    return [np.concatenate(part) for part in zip(*batches, strict=True)]


def levels(images):
    """Tells which example each row is, by its gray level."""
    return np.round(np.reshape(images, (len(images), -1)).mean(1) * 255 / 5).astype(int).tolist()


@pytest.mark.parametrize("kind", bad_images.KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_damage_is_found_among_good_images(source, kind):
    group = tf.constant([bad_images.good_image(8), kind(), bad_images.good_image(1)])
    assert undecodable._decodable(source, group).numpy().tolist() == [True, False, True]
    images, good = undecodable.map_decodable(
        lambda encoded: views.evaluation_view(source.decode(encoded), image_size=12),
        source,
        {"image": group},
        spec=tf.TensorSpec((12, 12, 3)),
        name="",
        strict=False,
    )
    assert good.numpy().tolist() == [True, False, True]
    assert levels(images) == [8, 0, 1] and not images[1].numpy().any()


@pytest.mark.parametrize("batch_size", [16, 8, 12])
def test_each_epoch_holds_each_good_example_and_stand_ins_for_the_bad(source, batch_size):
    batches = train(source, batch_size=batch_size, global_batch_size=2 * batch_size)
    images, labels, skipped = take(batches, 2 * bad_images.NUM_TRAIN // batch_size)
    labels = np.argmax(labels, -1)
    assert levels(images) == labels.tolist()
    for epoch in range(2):
        part = slice(epoch * bad_images.NUM_TRAIN, (epoch + 1) * bad_images.NUM_TRAIN)
        assert skipped[part].sum() == len(bad_images.BAD_TRAIN)
        assert sorted(labels[part][skipped[part] == 0]) == GOOD_TRAIN


def stored_labels(encoded):
    return [int(x["label"]) for x in encoded]


def test_the_next_good_example_of_the_group_stands_in(source):
    _, labels, skipped = take(train(source), 6)
    order = stored_labels(streams.encoded(source, 96, buffer=48, step=16))
    expected = []
    for begin in range(0, 96, 16):
        group = order[begin : begin + 16]
        for row in range(16):
            turns = (group[(row + n) % 16] for n in range(16))
            expected.append(next(n for n in turns if n not in bad_images.BAD_TRAIN))
    assert np.argmax(labels, -1).tolist() == expected
    assert skipped.tolist() == [float(label in bad_images.BAD_TRAIN) for label in order]


def test_a_stand_in_comes_with_views_of_its_own(source):
    images, labels, skipped = take(train(source, train_mode="pretrain"), 3)
    assert skipped.sum() == 5
    for row in np.flatnonzero(skipped):
        twins = np.flatnonzero((labels == labels[row]).all(1))
        assert len(twins) > 1
        for twin in twins[twins != row]:
            # One gray level: views of one image differ by their distortion alone.
            assert np.abs(images[twin] - images[row]).max() > 1e-3


def test_good_rows_are_what_they_are_without_bad_neighbors(source):
    images, _, skipped = take(train(source, train_mode="pretrain"), 3)
    order = stored_labels(streams.encoded(source, 48, buffer=48, step=16))
    for row in np.flatnonzero(skipped == 0)[:8]:
        image = source.decode(bad_images.good_image(order[row]))
        expected = []
        for i in range(2):
            box_seed, view_seed = (
                seeds.derive(5, use + i, row) for use in (seeds.BOXES, seeds.VIEWS)
            )
            box = crop.random_crop_box(box_seed, *image.shape[:2])
            expected.append(
                views.pretraining_view(image, box, view_seed, image_size=12, strength=1.0)
            )
        np.testing.assert_allclose(images[row], tf.stack(expected), atol=1e-5)


@pytest.mark.parametrize("step", [1, pytest.param(5, marks=pytest.mark.long)])
def test_a_resumed_stream_has_the_same_stand_ins(source, step):
    whole = take(train(source, train_mode="pretrain"), step + 4)
    rest = take(train(source, train_mode="pretrain", start_example=16 * step), 4)
    for expected, resumed in zip(whole, rest, strict=True):
        np.testing.assert_array_equal(resumed, expected[16 * step :])


def test_shards_skip_what_is_bad_in_their_parts(source):
    good = []
    for index in range(2):
        shard = train(source, batch_size=8, num_shards=2, shard_index=index)
        _, labels, skipped = take(shard, 3)
        part = stored_labels(source.encoded_examples(source.part_of_split("train", 2, index)))
        assert skipped.sum() == len(set(part) & set(bad_images.BAD_TRAIN))
        good += np.argmax(labels, -1)[skipped == 0].tolist()
    assert sorted(good) == GOOD_TRAIN


def refused(dataset):
    with pytest.raises(errors.UndecodableError) as caught, errors.in_one_line():
        take(dataset, 10)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_strict_names_the_file_and_the_place_in_it(source):
    message = refused(train(source, strict=True))
    assert "dataset bad_images, split train: example bad_images-train.tfrecord-0000" in message
    assert "--strict_data=False" in message
    # TFDS's id consists of the file and the index in it.
    name, place = message.split("example ")[1].split(" ")[0].split("__")
    (path,) = pathlib.Path(source._builder.data_dir).glob(name)
    records = list(tf.data.TFRecordDataset(str(path)))
    example = tf.train.Example.FromString(records[int(place)].numpy())
    label = example.features.feature["label"].int64_list.value[0]
    assert label in bad_images.BAD_TRAIN


def test_strict_changes_nothing_where_all_is_good(source):
    good = "train[:3]+train[4:11]"
    loose, strict = (take(train(source, split=good, strict=s), 3) for s in (False, True))
    for a, b in zip(loose, strict, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("strict", [False, True])
def test_nothing_but_bad_examples_is_an_error(source, strict):
    message = refused(train(source, split="rotten", strict=strict))
    assert "dataset bad_images, split rotten" in message
    if not strict:
        assert "16 examples in a row cannot be decoded, from position 0 on" in message


def test_evaluation_leaves_bad_examples_out(source):
    images, labels, weights, skipped = take(evaluation(source))
    stored = stored_labels(source.encoded_examples("test"))
    expected = [label not in bad_images.BAD_TEST for label in stored]
    assert weights.tolist() == [float(x) for x in expected] + [0.0] * 4
    assert skipped.tolist() == [float(not x) for x in expected] + [0.0] * 4
    assert not images[weights == 0].any()
    assert np.argmax(labels, -1)[:20].tolist() == stored and not labels[20:].any()
    assert levels(images[weights > 0]) == np.argmax(labels, -1)[weights > 0].tolist()


def test_evaluation_of_bad_examples_only_goes_through(source):
    _, _, weights, skipped = take(evaluation(source, split="rotten"))
    assert not weights.any() and skipped.sum() == bad_images.NUM_ROTTEN


def test_strict_evaluation(source):
    message = refused(evaluation(source, strict=True))
    assert "dataset bad_images, split test: example bad_images-test.tfrecord-0000" in message


def test_a_corrupt_file_is_not_skipped(source, tmp_path):
    folder = pathlib.Path(source._builder.data_dir)
    shutil.copytree(folder, tmp_path / folder.relative_to(folder.parents[1]))
    (file, *_) = sorted(tmp_path.rglob("*-train.tfrecord*"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    broken = tfds_source.open_source("bad_images", str(tmp_path))
    with pytest.raises(tf.errors.DataLossError), errors.in_one_line():
        take(train(broken), 3)


def test_an_error_in_augmenting_is_not_skipped(source, monkeypatch):
    def view(image, box, seed, *, image_size):
        del box, seed
        with tf.control_dependencies([tf.debugging.Assert(tf.shape(image)[0] < 50, ["too high"])]):
            return tf.image.resize(tf.cast(image, tf.float32), (image_size, image_size))

    monkeypatch.setattr(views, "finetuning_view", view)
    with pytest.raises(tf.errors.InvalidArgumentError, match="too high"):
        with errors.in_one_line():
            take(train(source), 3)


@pytest.mark.parametrize(
    "step_size, batch_size, expected",
    [
        (512, 512, 32),
        (4096, 64, 32),
        (96, 96, 32),
        (48, 48, 48),
        (200, 100, 50),
        (34, 17, 34),
        (64, 4, 32),
        (8, 8, 8),
        (8, 1, 8),
        (1, 1, 1),
        (502, 502, 251),
        (24, 8, 24),
    ],
)
def test_group_size(step_size, batch_size, expected):
    assert groups.group_size(step_size, batch_size, 32) == expected
    assert step_size % expected == 0


@pytest.mark.parametrize(
    "shape, dtype, expected",
    [
        ((2, 224, 224, 3), tf.float32, 32),
        ((2, 224, 224, 3), tf.uint8, 64),
        ((2, 32, 32, 3), tf.float32, 256),
        ((1, 8, 8, 3), tf.uint8, 256),
        ((1, 6000, 6000, 3), tf.float32, 32),
    ],
)
def test_examples_in_group(shape, dtype, expected):
    assert groups.examples_in_group(tf.TensorSpec(shape, dtype)) == expected


@pytest.mark.parametrize(
    "batch_size, dtype, expected",
    [
        (64, tf.float32, 64),
        (50, tf.float32, 50),
        (100, tf.float32, 32),
        (256, tf.float32, 32),
        (256, tf.uint8, 256),
        (512, tf.uint8, 64),
        (8, tf.float32, 32),
    ],
)
def test_a_group_is_a_whole_batch_where_that_fits(batch_size, dtype, expected):
    spec = tf.TensorSpec((2, 224, 224, 3), dtype)
    assert groups.examples_in_group(spec, batch_size) == expected
