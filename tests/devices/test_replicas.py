"""One replica against several: the same loss, gradients and weights from the same batch."""

import contextlib
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import replica_table
from tf_simclr import compat
from tf_simclr.losses.nt_xent import nt_xent_stacked
from tf_simclr.optim import policy
from tf_simclr.training.loss_terms import Targets, WeightDecay, supervised_loss

MODELS = {
    "pretraining": ("pretrain", dict(resnet_depth=18)),
    "fine-tuning": ("finetune", dict(resnet_depth=18)),
    "SK": ("pretrain", dict(resnet_depth=50, sk_ratio=0.0625)),
}
BATCH, IMAGE_SIZE = 8, 16
LEARNING_RATE = {"float32": 0.01, "float64": 0.1}
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}  # relative, in Euclidean norms


@pytest.fixture(scope="module")
def make_model(short_model):
    """Function: (name in MODELS, dtype, settings of SimCLR) -> a short model.

    In float32 its activations are ELUs. Of the many inputs of ReLUs some lie within rounding of 0,
    where rounding decides whether a gradient flows: equal computations in another order differ by
    a thousandth and more (docs/results.md). In float64 they are ReLUs, and rounding stays rounding.
    """

    def make(name: str, dtype: str, **settings):
        train_mode, kind = MODELS[name]
        settings = kind | settings | dict(stop_supervised_gradient=train_mode == "pretrain")
        with pytest.MonkeyPatch.context() as patch:
            if dtype == "float32":
                activation = keras.layers.Activation
                patch.setattr(
                    keras.layers,
                    "Activation",
                    lambda kind, **named: activation({"relu": "elu"}.get(kind, kind), **named),
                )
            return short_model(
                width_multiplier=0.125, image_size=IMAGE_SIZE, proj_out_dim=16, **settings
            )

    return make


@pytest.fixture(scope="module")
def train(replicas, make_model):
    """Function: (name in MODELS, dtype, number of replicas) -> Run, done once."""

    @functools.cache
    def run(name: str, dtype: str, number: int, global_bn: bool = True) -> replica_table.Run:
        with computing_in(dtype):
            return replica_table.train(
                replicas(number),
                lambda: make_model(name, dtype, global_bn=global_bn),
                replica_table.make_batch(BATCH, IMAGE_SIZE),
                train_mode=MODELS[name][0],
                learning_rate=LEARNING_RATE[dtype],
            )

    return run


@contextlib.contextmanager
def computing_in(dtype: str):
    replica_table.set_dtype(dtype)
    try:
        yield
    finally:
        replica_table.set_dtype("float32")


def assert_same(run, expected, tolerance: float):
    np.testing.assert_allclose(run.losses, expected.losses, rtol=tolerance)
    assert run.gradients.keys() == expected.gradients.keys()
    # Of all variables as one: some gradients are but what is left of terms that cancel.
    everything, reference = (
        {"": np.concatenate([gradient.ravel() for gradient in each.gradients.values()])}
        for each in (run, expected)
    )
    assert replica_table.difference(everything, reference) <= tolerance
    assert replica_table.difference(run.weights, expected.weights) <= tolerance


@pytest.mark.parametrize(
    "name, dtype, number",
    [
        # Each replica is traced by itself, which takes long: the largest model on two of them only.
        ("pretraining", "float32", 2),
        pytest.param("pretraining", "float32", 4, marks=pytest.mark.long),
        pytest.param("fine-tuning", "float32", 4, marks=pytest.mark.long),
        pytest.param("SK", "float64", 2, marks=pytest.mark.long),
    ],
)
def test_replicas_train_as_one(train, name, dtype, number):
    single = train(name, dtype, 1)
    assert abs(single.losses[1] / single.losses[0] - 1) > 0.02
    assert_same(train(name, dtype, number), single, TOLERANCE[dtype])


def train_by_slices(model, number: int) -> replica_table.Run:
    """Pretraining on one device, each slice of the batch normalized by its own statistics."""
    optimizer = policy.make_optimizer(
        model,
        "lars",
        LEARNING_RATE["float32"],
        momentum=0.9,
        weight_decay=replica_table.WEIGHT_DECAY,
    )
    replica_table.set_weights(model)
    variables = model.variables_by_path()
    averages = [variable for path, variable in variables.items() if "/moving_" in path]
    trainable = policy.trainable_variables(model)
    decayed = policy.loss_decay_variables(model, "lars")
    images, labels = replica_table.make_batch(BATCH, IMAGE_SIZE)

    def assign(variables, values):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def measure():
        """Loss, gradients, and the mean over the slices of what the moving averages become."""
        before = [np.array(tf.convert_to_tensor(average)) for average in averages]
        halves, logits, after = [], [], []
        with tf.GradientTape() as tape:
            for part in np.split(images, number):
                endpoints = model(np.concatenate([part[:, 0], part[:, 1]]), training=True)
                halves.append(tf.split(endpoints["proj_head_output"], 2))
                logits.append(endpoints["logits_sup"])
                after.append([np.array(tf.convert_to_tensor(average)) for average in averages])
                assign(averages, before)
            hidden = tf.concat([half[view] for view in (0, 1) for half in halves], axis=0)
            loss = nt_xent_stacked(hidden, temperature=0.5)["contrast_loss"]
            twice = np.concatenate([part for part in np.split(labels, number) for _ in (0, 1)])
            targets = Targets.from_labels(twice)
            loss += supervised_loss(tf.concat(logits, axis=0), targets)["supervised_loss"]
            loss += WeightDecay(decayed, replica_table.WEIGHT_DECAY).loss()
        gradients = tape.gradient(loss, [compat.tf_variable(v) for v in trainable])
        return float(loss), gradients, [np.mean(v, axis=0) for v in zip(*after, strict=True)]

    first_loss, first_gradients, _ = measure()
    for _ in range(replica_table.NUM_STEPS):
        _, gradients, after = measure()
        compat.apply_gradients(optimizer, list(zip(gradients, trainable, strict=True)))
        assign(averages, after)
    weights = {path: np.array(tf.convert_to_tensor(v)) for path, v in variables.items()}
    return replica_table.Run(
        losses=(first_loss, measure()[0]),
        gradients={
            path: np.array(gradient)
            for path, gradient in zip(policy.groups(model), first_gradients, strict=True)
        },
        weights=weights,
    )


def test_without_global_bn_each_replica_has_its_own_statistics(train, make_model):
    several = train("pretraining", "float32", 2, global_bn=False)
    model = make_model("pretraining", "float32", global_bn=False)
    assert_same(several, train_by_slices(model, 2), TOLERANCE["float32"])
    synchronized = train("pretraining", "float32", 2)
    assert abs(several.losses[0] / synchronized.losses[0] - 1) > 0.01
    assert replica_table.difference(several.weights, synchronized.weights) > 0.01
