"""train_mode=distill through experiment.run: a teacher, students, and what is refused."""

import functools
import os

import numpy as np
import pytest
import tensorflow as tf

import small
from tf_simclr.checkpoints.weights import read_weights
from tf_simclr.models import from_config
from tf_simclr.training import run_input

pytestmark = pytest.mark.long

TINY = (
    *small.RUN,
    "--dataset=shapes",
    "--train_split=train[:64]",
    "--eval_split=test[:100]",
    "--optimizer=momentum",
    "--learning_rate=1",
    "--train_steps=3",
    "--train_summary_steps=1",
)


run = functools.partial(small.run, *TINY)
refused = functools.partial(small.refused, *TINY)


@pytest.fixture(scope="module")
def data(shapes_dir) -> str:
    return f"--data_dir={shapes_dir}"


@pytest.fixture(scope="module")
def teacher(data, tmp_path_factory) -> str:
    """model_dir of a fine-tuned run, wider than the students."""
    model_dir = str(tmp_path_factory.mktemp("runs") / "teacher")
    run(
        data,
        "--train_mode=finetune",
        "--from_scratch",
        "--width_multiplier=0.125",
        f"--model_dir={model_dir}",
    )
    return model_dir


@pytest.fixture(scope="module")
def distilled(data, teacher, tmp_path_factory) -> tuple[str, dict]:
    """model_dir and results of a student."""
    model_dir = str(tmp_path_factory.mktemp("runs") / "student")
    results = run(
        data,
        "--train_mode=distill",
        f"--teacher={teacher}",
        f"--model_dir={model_dir}",
        "--mode=train_then_eval",
        "--augment_on=host",
    )
    return model_dir, results


def first_loss(events, model_dir) -> float:
    return float(events(model_dir)["train/distill_loss"][1])


def test_the_student_is_an_ordinary_run_with_the_classes_of_its_teacher(distilled, events):
    model_dir, results = distilled
    assert 0 <= results["eval/label_top_1_accuracy"] <= 1
    student = tf.saved_model.load(results["saved_model"])
    images = tf.zeros((2, 32, 32, 3))
    assert student(images, trainable=False)["logits_sup"].shape == (2, 10)
    assert student(images, trainable=False)["final_avg_pool"].shape == (2, 32)
    found = set(events(model_dir))
    assert {"train/distill_loss", "train/teacher_agreement"} <= found
    assert "train/supervised_loss" not in found


def test_the_teacher_is_left_as_it_was(distilled, teacher):
    exported = read_weights(f"{teacher}/saved_model/3")
    for path, value in read_weights(f"{teacher}/ckpt-3").items():
        np.testing.assert_array_equal(exported[path], value, err_msg=path)


def test_the_loss_is_that_of_the_teachers_logits(distilled, teacher, data, events, monkeypatch):
    """The first loss again, from the models and the batch by themselves."""
    from tf_simclr.data.sources.tfds_source import open_source

    config = small.parse(
        *TINY,
        data,
        "--train_mode=distill",
        f"--teacher={teacher}",
        "--model_dir=x",
        "--augment_on=host",
    )
    source = open_source("shapes", config.data.data_dir)
    model = from_config.make_model(config, 10)
    batches = run_input.train_batches(config, source, tf.distribute.get_strategy(), examples_seen=0)
    images = next(iter(batches)).views[:, 0]
    student = model(images, training=True)["logits_sup"].numpy()
    taught = tf.saved_model.load(f"{teacher}/saved_model/3")(images)["logits_sup"].numpy()
    target = np.exp(taught) / np.exp(taught).sum(1, keepdims=True)
    log_p = student - np.log(np.exp(student).sum(1, keepdims=True))
    expected = -(target * log_p).sum(1).mean()
    assert first_loss(events, distilled[0]) == pytest.approx(expected, rel=1e-5)
    assert np.ptp(target) > 0.01  # a teacher that says something


def test_labels_can_be_mixed_in_and_its_own_checkpoint_be_the_start(
    distilled, teacher, data, events, tmp_path
):
    model_dir = str(tmp_path / "mixed")
    run(
        data,
        "--train_mode=distill",
        f"--teacher={teacher}/saved_model/3",
        "--train_steps=1",
        f"--checkpoint={teacher}",
        "--width_multiplier=0.125",
        "--distill_label_weight=0.5",
        f"--model_dir={model_dir}",
    )
    found = events(model_dir)
    distill, supervised = (
        float(found[f"train/{name}"][1]) for name in ("distill_loss", "supervised_loss")
    )
    total = float(found["train/total_loss"][1]) - float(found["train/weight_decay"][1])
    assert total == pytest.approx(0.5 * distill + 0.5 * supervised, rel=1e-5)


def test_a_teacher_on_two_replicas(replicas, teacher):
    from tf_simclr.checkpoints.teacher import Teacher

    images = np.random.default_rng(0).uniform(size=(2, 2, 32, 32, 3)).astype(np.float32)
    expected = Teacher(teacher, image_size=32)(tf.constant(images.reshape(4, 32, 32, 3))).numpy()
    strategy = replicas(2)
    with strategy.scope():
        loaded = Teacher(teacher, image_size=32)
    assert loaded.num_classes == 10

    @tf.function
    def run_on_both(batches):
        return strategy.run(loaded, args=(batches,))

    batches = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(images[context.replica_id_in_sync_group])
    )
    found = strategy.experimental_local_results(run_on_both(batches))
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-5, atol=1e-6)


def test_what_cannot_teach_is_refused(data, teacher, tmp_path):
    new = ("--train_mode=distill", f"--model_dir={tmp_path / 'new'}", data)
    for path, words in (
        (str(tmp_path), "is neither a SavedModel nor a model_dir that has one"),
        (f"{teacher}/ckpt-3", "is neither a SavedModel nor a model_dir that has one"),
    ):
        message = refused(*new, f"--teacher={path}")
        assert message.startswith(f"teacher {path!r} ") and words in message
    module = tf.Module()
    module.__call__ = tf.function(
        lambda images, trainable=False: {"final_avg_pool": images[:, 0, 0]},
        input_signature=[tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((), tf.bool)],
    )
    tf.saved_model.save(module, str(tmp_path / "headless"))
    message = refused(*new, f"--teacher={tmp_path / 'headless'}")
    assert "no supervised head" in message and "--train_mode=finetune" in message
    assert not os.path.exists(tmp_path / "new")
