"""Single training steps: by hand in NumPy, and on several replicas against one."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from function_task import FunctionTask, batch_of
from tf_simclr import compat
from tf_simclr.config import Config
from tf_simclr.data.batch import ViewBatch
from tf_simclr.optim import policy
from tf_simclr.training.tasks import make_task
from tf_simclr.training.train_step import train_step

RNG = np.random.default_rng(0)
BATCH = 8
IMAGES = RNG.uniform(size=(BATCH, 32, 32, 6)).astype(np.float32)
VIEWS = np.stack(np.split(IMAGES, 2, axis=-1), axis=1)
LABELS = np.eye(5, dtype=np.float32)[[0, 1, 2, 3, 4, 0, 1, 2]]


def sliced(array, number: int) -> np.ndarray:
    return array.reshape(number, -1, *array.shape[1:])


def trained(strategy, run_on, make_model, *, mode: str, optimizer: str):
    """(model, metrics of each replica) after one step from the same weights."""
    number = strategy.num_replicas_in_sync
    with strategy.scope():
        model = make_model()
        made = policy.make_optimizer(model, optimizer, 0.1, momentum=0.9, weight_decay=0.01)
    config = Config().replace(
        train_mode=mode,
        optimizer=optimizer,
        weight_decay=0.01,
        temperature=0.5,
        use_blur=False,
        seed=1,
    )
    task = make_task(config, model)

    def step(views, labels):
        views = views if mode == "pretrain" else views[:, :1]
        return train_step(task, made, ViewBatch(views, labels, tf.zeros(len(labels))))

    batch = sliced(VIEWS, number), sliced(LABELS, number)
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

    def loss(batch, _):
        w = tf.reshape(compat.tf_variable(layer.kernel), [])
        return {"total_loss": tf.reduce_mean(tf.square(w * batch.views - batch.labels))}

    task = FunctionTask(loss, [layer.kernel])

    def step(x, y):
        return train_step(task, optimizer, batch_of(x, y))

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
