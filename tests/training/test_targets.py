"""Examples without a label: how the others weigh, in parts and on replicas."""

import numpy as np
import pytest
import tensorflow as tf

from function_task import FunctionTask, batch_of
from tf_simclr.data.batch import EvalBatch
from tf_simclr.training import microbatch
from tf_simclr.training.evaluator import evaluation_step
from tf_simclr.training.loss_terms import Targets, supervised_loss

RNG = np.random.default_rng(0)
N, CLASSES = 12, 5
LOGITS = RNG.normal(size=(N, CLASSES)).astype(np.float32)
NUMBERS = RNG.integers(CLASSES, size=N)
NUMBERS[[0, 1, 2, 7]] = -1
LABELS = tf.one_hot(NUMBERS, CLASSES).numpy()
KNOWN = NUMBERS >= 0


def by_hand() -> tuple[float, float, np.ndarray]:
    """Loss and accuracy over the labeled examples, and the loss's gradient by the logits."""
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    loss = -np.log(p[KNOWN, NUMBERS[KNOWN]]).mean()
    hits = (LOGITS.argmax(1) == NUMBERS)[KNOWN].mean()
    return loss, hits, (p - LABELS) * KNOWN[:, None] / KNOWN.sum()


def test_they_are_left_out_of_loss_accuracy_and_gradient():
    loss, hits, gradient = by_hand()
    logits = tf.constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        found = supervised_loss(logits, Targets.from_labels(LABELS))
    assert float(found["supervised_loss"]) == pytest.approx(loss, rel=1e-5)
    assert float(found["supervised_acc"]) == pytest.approx(hits, rel=1e-6)
    np.testing.assert_allclose(
        tape.gradient(found["supervised_loss"], logits), gradient, rtol=1e-4, atol=1e-7
    )
    assert 0 < hits < 1


def test_labeled_examples_weigh_exactly_one_where_all_are():
    np.testing.assert_array_equal(Targets.from_labels(np.eye(7)[:6]).weights, np.ones(6))


def test_without_any_label_the_loss_is_zero():
    found = supervised_loss(tf.constant(LOGITS), Targets.from_labels(np.zeros((N, CLASSES))))
    assert {name: float(value) for name, value in found.items()} == dict.fromkeys(found, 0.0)


def test_both_views_have_the_same_targets():
    twice = Targets.from_labels(LABELS).of_both_views()
    np.testing.assert_array_equal(twice.one_hot, np.concatenate([LABELS, LABELS]))
    np.testing.assert_array_equal(twice.weights[:N], twice.weights[N:])


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("size", [2, 6])
def test_parts_and_replicas_add_up_to_the_whole(replicas, run_on, number, size):
    """Their parts have other shares of labeled examples."""
    loss, hits, gradient = by_hand()
    strategy = replicas(number)
    with strategy.scope():
        kernel = tf.Variable(np.eye(CLASSES, dtype=np.float32))

    def loss_of(batch, targets):
        found = supervised_loss(batch.views @ kernel, targets)
        return found | {"total_loss": found["supervised_loss"]}

    task = FunctionTask(loss_of, [kernel], metric_names=("total_loss", "supervised_acc"))

    def step(logits, labels):
        metrics, (mine,) = microbatch.gradients(
            task, batch_of(logits, labels), Targets.from_labels(labels), size=size, step=0
        )
        return metrics | {"gradient": mine}

    parts = [a.reshape(number, -1, CLASSES) for a in (LOGITS, LABELS)]
    found = run_on(strategy, step, *parts)
    assert np.mean([f["total_loss"] for f in found]) == pytest.approx(loss, rel=1e-5)
    assert np.mean([f["supervised_acc"] for f in found]) == pytest.approx(hits, rel=1e-5)
    total = np.sum([f["gradient"] for f in found], axis=0)
    np.testing.assert_allclose(total, LOGITS.T @ gradient, rtol=1e-4, atol=1e-6)


def test_ties_are_no_hits_in_evaluation_and_training():
    zeros = tf.zeros((N, 7))
    labels = tf.one_hot(tf.range(N) % 7, 7)
    batch = EvalBatch(tf.zeros((N, 1)), labels, tf.ones(N), tf.zeros(N))
    found = evaluation_step(lambda images, training: {"logits_sup": zeros}, batch)
    assert {name: float(value) for name, value in found.items()} == {
        "top_1": 0,
        "top_5": 0,
        "examples": N,
        "unlabelled": 0,
        "skipped": 0,
    }
    assert float(supervised_loss(zeros, Targets.from_labels(labels))["supervised_acc"]) == 0
