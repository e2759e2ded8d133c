"""Distillation against equation 2 of the SimCLRv2 paper, written out in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.losses.distillation import distillation

RNG = np.random.default_rng(0)
STUDENT = RNG.normal(size=(6, 4)).astype(np.float32)
TEACHER = (3 * RNG.normal(size=(6, 4))).astype(np.float32)


def softmax(logits, temperature):
    p = np.exp((logits - logits.max(1, keepdims=True)) / temperature)
    return p / p.sum(1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 4.0])
def test_value_is_that_of_the_equation(temperature):
    total = 0.0
    rows = zip(STUDENT.astype(np.float64), TEACHER.astype(np.float64), strict=True)
    for student, teacher in rows:
        p = np.exp(teacher / temperature) / np.exp(teacher / temperature).sum()
        q = np.exp(student / temperature) / np.exp(student / temperature).sum()
        total -= sum(p[y] * np.log(q[y]) for y in range(4))
    metrics = distillation(tf.constant(STUDENT), tf.constant(TEACHER), temperature=temperature)
    assert float(metrics["distill_loss"]) == pytest.approx(total / 6, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_gradient_is_the_difference_of_the_probabilities_and_the_teacher_has_none(temperature):
    student, teacher = tf.constant(STUDENT), tf.constant(TEACHER)
    with tf.GradientTape() as tape:
        tape.watch([student, teacher])
        loss = distillation(student, teacher, temperature=temperature)["distill_loss"]
    to_student, to_teacher = tape.gradient(loss, [student, teacher])
    difference = softmax(STUDENT, temperature) - softmax(TEACHER, temperature)
    np.testing.assert_allclose(to_student, difference / temperature / 6, rtol=1e-4, atol=1e-7)
    assert to_teacher is None


def test_agreement_is_the_share_of_equal_first_classes():
    teacher = np.roll(STUDENT, 1, axis=1)
    teacher[:2] = 2 * STUDENT[:2]
    metrics = distillation(tf.constant(STUDENT), tf.constant(teacher), temperature=1.0)
    assert float(metrics["teacher_agreement"]) == pytest.approx(2 / 6)


def test_half_precision_logits_are_compared_in_float32():
    metrics = distillation(
        tf.constant(STUDENT, tf.float16), tf.constant(TEACHER, tf.float16), temperature=1.0
    )
    assert metrics["distill_loss"].dtype == tf.float32


def test_equal_scores_of_either_agree_with_nobody():
    level = np.zeros((3, 4), np.float32)
    for student, teacher in ((level, level), (STUDENT[:3], level), (level, TEACHER[:3])):
        metrics = distillation(tf.constant(student), tf.constant(teacher), temperature=1.0)
        assert float(metrics["teacher_agreement"]) == 0
