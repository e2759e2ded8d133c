"""Single steps: by hand in NumPy, and on several replicas against one."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_simclr import compat
from tf_simclr.losses.nt_xent import nt_xent_stacked
from tf_simclr.optim import policy
from tf_simclr.training import steps

RNG = np.random.default_rng(0)
BATCH = 8
IMAGES = RNG.uniform(size=(BATCH, 32, 32, 6)).astype(np.float32)
LABELS = np.eye(5, dtype=np.float32)[[0, 1, 2, 3, 4, 0, 1, 2]]
NT_XENT = dict(temperature=0.5, hidden_norm=True)


def sliced(array, number: int) -> np.ndarray:
    return array.reshape(number, -1, *array.shape[1:])


def cross_entropy(logits, labels) -> float:
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return float(-(labels * log_p).sum(1).mean())


def test_supervised_loss_by_hand():
    logits = RNG.normal(size=(BATCH, 5)).astype(np.float32)
    logits[:3] += 10 * LABELS[:3]
    logits[3:] -= 10 * LABELS[3:]
    found = steps.supervised_loss(tf.constant(logits), steps.Targets.of(LABELS))
    assert float(found["supervised_loss"]) == pytest.approx(cross_entropy(logits, LABELS), 1e-5)
    hits = logits.argmax(1) == LABELS.argmax(1)
    assert float(found["supervised_acc"]) == hits.mean() == 3 / 8
    half = steps.supervised_loss(tf.constant(logits, tf.float16), steps.Targets.of(LABELS))
    assert half["supervised_loss"].dtype == tf.float32


def test_weight_decay_is_half_the_squared_norms():
    variables = [tf.Variable([3.0, 4.0]), tf.Variable([[1.0], [2.0]], dtype=tf.float32)]
    assert float(steps.weight_decay_loss(variables, 0.1)) == pytest.approx(0.1 * (25 + 5) / 2)
    assert float(steps.weight_decay_loss([], 0.1)) == 0
    assert float(steps.weight_decay_loss(variables, 0.0)) == 0


@pytest.mark.parametrize("label_weight", [0.0, 0.25])
def test_distillation_loss_is_made_of_its_parts(tiny_model, label_weight):
    model = tiny_model()
    kernel = model.variables_by_path()["head_supervised/dense/kernel"]
    images, taught = IMAGES[..., :3], RNG.normal(size=(BATCH, 5)).astype(np.float32)
    seen = []

    def teacher(given):
        seen.append(given.numpy())
        return tf.constant(taught)

    # Without labels there may be none at all.
    targets = steps.Targets.of(LABELS) if label_weight else ()
    found = steps.distill_loss(
        model,
        teacher,
        tf.constant(images),
        targets,
        temperature=0.5,
        label_weight=label_weight,
        decayed=[kernel],
        weight_decay=0.3,
    )
    supervised = steps.SUPERVISED_METRICS if label_weight else ()
    assert set(found) == {*steps.DISTILL_METRICS, *supervised}
    np.testing.assert_array_equal(seen, [images])
    logits = model(images, training=True)["logits_sup"].numpy()
    target = np.exp(taught / 0.5) / np.exp(taught / 0.5).sum(1, keepdims=True)
    expected = cross_entropy(logits / 0.5, target)
    assert float(found["distill_loss"]) == pytest.approx(expected, rel=1e-4)
    total = (1 - label_weight) * expected + 0.3 * float(tf.nn.l2_loss(tf.convert_to_tensor(kernel)))
    if label_weight:
        total += label_weight * cross_entropy(logits, LABELS)
    assert float(found["total_loss"]) == pytest.approx(total, rel=1e-4)


@pytest.fixture(scope="module")
def pretraining(tiny_model):
    return tiny_model(stop_supervised_gradient=True)


def test_pretraining_loss_is_made_of_its_parts(pretraining):
    model = pretraining
    kernel = model.variables_by_path()["head_supervised/dense/kernel"]
    outputs = steps.pretrain_outputs(model, [IMAGES[..., :3] + 0.1, IMAGES[..., 3:] + 0.2])
    found = steps.pretrain_loss(
        outputs, steps.Targets.of(LABELS), decayed=[kernel], weight_decay=0.3, **NT_XENT
    )
    assert set(found) == {*steps.PRETRAIN_METRICS, *steps.SUPERVISED_METRICS}
    views = np.concatenate([IMAGES[..., :3] + 0.1, IMAGES[..., 3:] + 0.2])
    endpoints = model(views, training=True)
    contrast = nt_xent_stacked(endpoints["proj_head_output"], **NT_XENT)
    for name in ("contrast_loss", "contrast_acc", "contrast_entropy"):
        np.testing.assert_allclose(found[name], contrast[name], rtol=1e-4)
    logits = endpoints["logits_sup"].numpy()
    supervised = cross_entropy(logits, np.concatenate([LABELS, LABELS]))
    assert float(found["supervised_loss"]) == pytest.approx(supervised, rel=1e-4)
    decay = 0.3 * (np.array(kernel) ** 2).sum() / 2
    assert float(found["weight_decay"]) == pytest.approx(decay, rel=1e-4)
    total = float(contrast["contrast_loss"]) + supervised + decay
    assert float(found["total_loss"]) == pytest.approx(total, rel=1e-4)


def test_pretraining_without_a_supervised_head_or_blur(tiny_model):
    model = tiny_model(num_classes=None)
    outputs = steps.pretrain_outputs(model, np.split(IMAGES, 2, axis=-1))
    found = steps.pretrain_loss(outputs, None, decayed=[], weight_decay=1.0, **NT_XENT)
    assert set(found) == set(steps.PRETRAIN_METRICS)
    assert float(found["total_loss"]) == float(found["contrast_loss"])


def test_fine_tuning_loss_is_made_of_its_parts(tiny_model):
    model = tiny_model()
    decayed = policy.loss_decay_variables(model, "momentum")
    images = IMAGES[..., :3]
    targets = steps.Targets.of(LABELS)
    found = steps.finetune_loss(model, images, targets, decayed=decayed, weight_decay=0.1)
    assert set(found) == set(steps.FINETUNE_METRICS)
    logits = model(images, training=True)["logits_sup"].numpy()
    supervised = cross_entropy(logits, LABELS)
    decay = 0.1 * sum((np.array(v) ** 2).sum() for v in decayed) / 2
    assert float(found["supervised_loss"]) == pytest.approx(supervised, rel=1e-4)
    assert float(found["weight_decay"]) == pytest.approx(decay, rel=1e-4)
    assert float(found["total_loss"]) == pytest.approx(supervised + decay, rel=1e-4)


def trained(strategy, run_on, make_model, *, mode: str, optimizer: str):
    """(model, metrics of each replica) after one step from the same weights."""
    number = strategy.num_replicas_in_sync
    with strategy.scope():
        model = make_model()
        made = policy.make_optimizer(model, optimizer, 0.1, momentum=0.9, weight_decay=0.01)
    decay = dict(decayed=policy.loss_decay_variables(model, optimizer), weight_decay=0.01)

    def step(images, labels):
        targets = steps.Targets.of(labels)

        def loss():
            if mode == "finetune":
                return steps.finetune_loss(model, images[..., :3], targets, **decay)
            outputs = steps.pretrain_outputs(model, tf.split(images, 2, axis=-1))
            return steps.pretrain_loss(outputs, targets, **NT_XENT, **decay)

        differentiate = functools.partial(steps.gradients, loss)
        return steps.train_step(differentiate, made, policy.trainable_variables(model))

    batch = sliced(IMAGES, number), sliced(LABELS, number)
    return model, run_on(strategy, step, *batch, graph=False)


def test_replicas_take_the_same_step_with_keras_own_optimizer(
    replicas, run_on, short_model, values
):
    """Up to a thousandth of a variable's largest change; LARS and why: test_replicas.py."""
    make = functools.partial(short_model, stop_supervised_gradient=True)
    settings = dict(mode="pretrain", optimizer="momentum")
    before = values(make())
    model, (single,) = trained(replicas(1), run_on, make, **settings)
    expected = values(model)
    model, metrics = trained(replicas(2), run_on, make, **settings)
    for name, value in single.items():
        means = np.mean([m[name] for m in metrics])
        np.testing.assert_allclose(means, value, rtol=1e-4, err_msg=name)
    for path, value in values(model).items():
        change = np.abs(expected[path] - before[path]).max()
        assert np.abs(value - expected[path]).max() <= 2e-3 * change + 1e-6, path
    moved = [path for path in before if not np.array_equal(before[path], expected[path])]
    assert len(moved) > 0.8 * len(before)


def test_train_step_is_plain_sgd_by_hand(replicas, run_on):
    """Two replicas, loss = mean of (w x - y)^2: the gradient of the mean over the whole batch."""
    strategy = replicas(2)
    x, y = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), np.float32([[1, 0], [2, 5]])
    with strategy.scope():
        layer = keras.layers.Dense(1, use_bias=False)
        layer.build((None, 1))
        layer.kernel.assign([[2.0]])
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build([layer.kernel])

    def step(x, y):
        def loss():
            w = tf.reshape(compat.tf_variable(layer.kernel), [])
            return {"total_loss": tf.reduce_mean(tf.square(w * x - y))}

        return steps.train_step(functools.partial(steps.gradients, loss), optimizer, [layer.kernel])

    metrics = run_on(strategy, step, x, y)
    for replica in range(2):
        expected = ((2 * x[replica] - y[replica]) ** 2).mean()
        assert metrics[replica]["total_loss"] == pytest.approx(expected)
    expected = 2 - 0.1 * (2 * (2 * x - y) * x).mean()
    assert np.array(tf.convert_to_tensor(layer.kernel)).item() == pytest.approx(expected, rel=1e-5)


def test_only_what_trains_and_is_reached_moves(replicas, run_on, short_model, values):
    make = functools.partial(short_model, fine_tune_after_block=1, ft_proj_selector=1)
    model, _ = trained(replicas(1), run_on, make, mode="finetune", optimizer="lars")
    before, after = values(make()), values(model)
    frozen = ("base_model/stem", "base_model/block_group1")
    unreached = ("head_contrastive/layer2", "head_contrastive/layer3")
    for path in before:
        same = np.array_equal(before[path], after[path])
        batch_norm_by_batch = "moving_" in path and not path.startswith(frozen)
        expected = path.startswith((*frozen, *unreached)) and not batch_norm_by_batch
        assert same == expected, path


def test_evaluation_step_counts_hits_without_padding():
    logits = RNG.normal(size=(12, 7)).astype(np.float32)
    labels = np.eye(7, dtype=np.float32)[RNG.integers(7, size=12)]
    weights = np.float32([1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1, 0])
    calls = []

    def model(images, training):
        calls.append(training)
        return {"logits_sup": tf.constant(logits)}

    found = steps.evaluation_step(model, None, labels, weights)
    order = np.argsort(-logits, axis=1)
    target = labels.argmax(1)
    hits = {k: (order[:, :k] == target[:, None]).any(1) * weights for k in (1, 5)}
    assert calls == [False]
    assert float(found["top_1"]) == hits[1].sum()
    assert float(found["top_5"]) == hits[5].sum()
    assert float(found["examples"]) == 9
    assert 0 < hits[1].sum() < hits[5].sum() < 9
