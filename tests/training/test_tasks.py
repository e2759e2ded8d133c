"""Losses of the tasks, by hand in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.data.augment.device_views import DeviceViews
from tf_simclr.data.batch import ViewBatch
from tf_simclr.losses.nt_xent import nt_xent_stacked
from tf_simclr.optim import policy
from tf_simclr.training import tasks
from tf_simclr.training.loss_terms import Targets, WeightDecay, supervised_loss

RNG = np.random.default_rng(0)
BATCH = 8
IMAGES = RNG.uniform(size=(BATCH, 32, 32, 6)).astype(np.float32)
VIEWS = np.stack(np.split(IMAGES, 2, axis=-1), axis=1)
LABELS = np.eye(5, dtype=np.float32)[[0, 1, 2, 3, 4, 0, 1, 2]]
NT_XENT = dict(temperature=0.5, hidden_norm=True)
WITHOUT_BLUR = Config().replace(seed=1, use_blur=False)
METRICS = ("weight_decay", "total_loss")
CONTRASTIVE = ("contrast_loss", "contrast_acc", "contrast_entropy")


def computed(task: tasks.Task, views: np.ndarray) -> dict[str, tf.Tensor]:
    """The task's metrics of a batch; they are those that it names."""
    batch = ViewBatch(tf.constant(views), tf.constant(LABELS), tf.zeros(BATCH))
    outputs = task.forward(batch, step=0, part=0)
    found = task.loss(outputs, task.targets(batch.labels))
    assert set(found) == set(task.metric_names)
    return found


def views_of(train_mode: str) -> DeviceViews:
    return DeviceViews(WITHOUT_BLUR.replace(train_mode=train_mode))


def cross_entropy(logits, labels) -> float:
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return float(-(labels * log_p).sum(1).mean())


def test_supervised_loss_by_hand():
    logits = RNG.normal(size=(BATCH, 5)).astype(np.float32)
    logits[:3] += 10 * LABELS[:3]
    logits[3:] -= 10 * LABELS[3:]
    targets = Targets.from_labels(LABELS)
    found = supervised_loss(tf.constant(logits), targets)
    assert float(found["supervised_loss"]) == pytest.approx(cross_entropy(logits, LABELS), 1e-5)
    hits = logits.argmax(1) == LABELS.argmax(1)
    assert float(found["supervised_acc"]) == hits.mean() == 3 / 8
    half = supervised_loss(tf.constant(logits, tf.float16), targets)
    assert half["supervised_loss"].dtype == tf.float32


def test_weight_decay_is_half_the_squared_norms():
    variables = [tf.Variable([3.0, 4.0]), tf.Variable([[1.0], [2.0]], dtype=tf.float32)]
    assert float(WeightDecay(variables, 0.1).loss()) == pytest.approx(0.1 * (25 + 5) / 2)
    assert float(WeightDecay([], 0.1).loss()) == 0
    assert float(WeightDecay(variables, 0.0).loss()) == 0


@pytest.mark.parametrize("label_weight", [0.0, 0.25])
def test_distillation_loss_is_made_of_its_parts(tiny_model, label_weight):
    model = tiny_model()
    kernel = model.variables_by_path()["head_supervised/dense/kernel"]
    images, taught = VIEWS[:, 0], RNG.normal(size=(BATCH, 5)).astype(np.float32)
    seen = []

    def teacher(given):
        seen.append(given.numpy())
        return tf.constant(taught)

    task = tasks.Distill(
        model,
        views_of("distill"),
        WeightDecay([kernel], 0.3),
        teacher,
        temperature=0.5,
        label_weight=label_weight,
    )
    assert (task.targets(LABELS) is None) == (label_weight == 0), "there may be no labels at all"
    found = computed(task, VIEWS[:, :1])
    supervised = tasks.SUPERVISED_METRICS if label_weight else ()
    assert set(found) == {*METRICS, "distill_loss", "teacher_agreement", *supervised}
    np.testing.assert_array_equal(seen, [images])
    logits = model(images, training=True)["logits_sup"].numpy()
    target = np.exp(taught / 0.5) / np.exp(taught / 0.5).sum(1, keepdims=True)
    expected = cross_entropy(logits / 0.5, target)
    assert float(found["distill_loss"]) == pytest.approx(expected, rel=1e-4)
    total = (1 - label_weight) * expected + 0.3 * float(tf.nn.l2_loss(tf.convert_to_tensor(kernel)))
    if label_weight:
        total += label_weight * cross_entropy(logits, LABELS)
    assert float(found["total_loss"]) == pytest.approx(total, rel=1e-4)


def test_pretraining_loss_is_made_of_its_parts(tiny_model):
    model = tiny_model(stop_supervised_gradient=True)
    kernel = model.variables_by_path()["head_supervised/dense/kernel"]
    task = tasks.Pretrain(model, views_of("pretrain"), WeightDecay([kernel], 0.3), **NT_XENT)
    found = computed(task, VIEWS)
    assert set(found) == {*METRICS, *CONTRASTIVE, *tasks.SUPERVISED_METRICS}
    endpoints = model(np.concatenate([VIEWS[:, 0], VIEWS[:, 1]]), training=True)
    contrast = nt_xent_stacked(endpoints["proj_head_output"], **NT_XENT)
    for name in CONTRASTIVE:
        np.testing.assert_allclose(found[name], contrast[name], rtol=1e-4)
    logits = endpoints["logits_sup"].numpy()
    supervised = cross_entropy(logits, np.concatenate([LABELS, LABELS]))
    assert float(found["supervised_loss"]) == pytest.approx(supervised, rel=1e-4)
    decay = 0.3 * (np.array(kernel) ** 2).sum() / 2
    assert float(found["weight_decay"]) == pytest.approx(decay, rel=1e-4)
    total = float(contrast["contrast_loss"]) + supervised + decay
    assert float(found["total_loss"]) == pytest.approx(total, rel=1e-4)


def test_pretraining_without_a_supervised_head(tiny_model):
    task = tasks.Pretrain(
        tiny_model(num_classes=None), views_of("pretrain"), WeightDecay([], 1.0), **NT_XENT
    )
    found = computed(task, VIEWS)
    assert set(found) == {*METRICS, *CONTRASTIVE}
    assert float(found["total_loss"]) == float(found["contrast_loss"])


def test_fine_tuning_loss_is_made_of_its_parts(tiny_model):
    model = tiny_model()
    decayed = policy.loss_decay_variables(model, "momentum")
    task = tasks.Finetune(model, views_of("finetune"), WeightDecay(decayed, 0.1))
    found = computed(task, VIEWS[:, :1])
    assert set(found) == {*METRICS, *tasks.SUPERVISED_METRICS}
    logits = model(VIEWS[:, 0], training=True)["logits_sup"].numpy()
    supervised = cross_entropy(logits, LABELS)
    decay = 0.1 * sum((np.array(v) ** 2).sum() for v in decayed) / 2
    assert float(found["supervised_loss"]) == pytest.approx(supervised, rel=1e-4)
    assert float(found["weight_decay"]) == pytest.approx(decay, rel=1e-4)
    assert float(found["total_loss"]) == pytest.approx(supervised + decay, rel=1e-4)


@pytest.mark.parametrize("train_mode, kind", [("pretrain", "Pretrain"), ("finetune", "Finetune")])
def test_settings_choose_the_task_and_its_numbers(tiny_model, train_mode, kind):
    config = WITHOUT_BLUR.replace(
        train_mode=train_mode, temperature=0.3, weight_decay=0.25, optimizer="momentum"
    )
    task = tasks.make_task(config, tiny_model())
    assert type(task).__name__ == kind and task.weight_decay.coefficient == 0.25
    assert len(task.weight_decay.variables) > 10, "momentum decays by the loss"
    if train_mode == "pretrain":
        assert (task.temperature, task.hidden_norm, task.block_rows) == (0.3, True, 0)


def test_distillation_needs_a_teacher(tiny_model):
    with pytest.raises(ValueError, match="teacher None"):
        tasks.make_task(WITHOUT_BLUR.replace(train_mode="distill"), tiny_model())
