"""The steps of a run compile under XLA, as a TPU needs, and take the same step compiled."""

import types

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import replica_table
from tf_simclr import compat, run_state
from tf_simclr.cli import flags
from tf_simclr.data.batch import EvalBatch, ViewBatch
from tf_simclr.models import resnet
from tf_simclr.training.evaluator import evaluation_step
from tf_simclr.training.plan import Plan
from xla_ops import assert_stays_on_the_device

BATCH = 8
PLAN = Plan(num_train=64, num_eval=8, total_steps=100, checkpoint_steps=100, eval_batches=1)


@pytest.fixture
def float64():
    replica_table.set_dtype("float64")
    yield
    replica_table.set_dtype("float32")


@pytest.fixture
def make_experiment(tmp_path, monkeypatch):
    """Function: train_mode -> a run of a short ResNet-18 that has taken no step yet."""
    monkeypatch.setitem(resnet.BLOCKS_PER_GROUP, 18, (1, 1, 1, 1))

    def make(train_mode: str, *arguments: str) -> run_state.RunState:
        config = flags.parse(
            [
                "",
                f"--train_mode={train_mode}",
                f"--model_dir={tmp_path}",
                "--image_size=32",
                "--resnet_depth=18",
                "--width_multiplier=0.125",
                "--proj_out_dim=16",
                f"--train_batch_size={BATCH}",
                f"--eval_batch_size={BATCH}",
                "--optimizer=lars",
                "--learning_rate=0.03",
                "--warmup_epochs=0",
                "--temperature=0.5",
                "--weight_decay=1e-4",
                "--seed=1",
                *arguments,
            ]
        ).config
        source = types.SimpleNamespace(num_classes=replica_table.NUM_CLASSES)  # no step reads it
        strategy = tf.distribute.OneDeviceStrategy("CPU:0")
        made = run_state.build(config, source, PLAN, strategy)
        replica_table.set_weights(made.model)
        return made

    return make


def batch(train_mode: str) -> ViewBatch:
    images, labels = replica_table.make_batch(BATCH, 32)
    views = images if train_mode == "pretrain" else images[:, :1]
    return ViewBatch(tf.constant(views), tf.constant(labels), tf.zeros(BATCH))


def compiled(made: run_state.RunState):
    """One training step on the run's device, compiled by XLA."""
    step = made.train_step
    return tf.function(lambda batch: made.strategy.run(step, args=(batch,)), jit_compile=True)


def state(made: run_state.RunState) -> tuple[dict, dict]:
    """The model's variables, moving averages included, and the optimizer's slots."""
    slots = compat.optimizer_slots(made.optimizer)
    slots = {f"{name} {i}": slot for name in slots for i, slot in enumerate(slots[name])}
    return tuple(
        {name: np.array(tf.convert_to_tensor(variable)) for name, variable in variables.items()}
        for variables in (made.model.variables_by_path(), slots)
    )


def assert_same_step(
    step, made, reference, *arguments, metrics: float, weights: float, slots: float
):
    """made's compiled step does what reference's does eagerly; tolerances are relative."""
    expected = reference.strategy.run(reference.train_step, args=arguments)
    before, _ = state(made)
    found = step(*arguments)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=metrics, err_msg=name)
    (our_weights, our_slots), (their_weights, their_slots) = state(made), state(reference)
    assert replica_table.difference(our_weights, their_weights) <= weights
    assert replica_table.difference(our_slots, their_slots) <= slots
    assert replica_table.difference(our_weights, before) > 1e-3


@pytest.mark.parametrize(
    "train_mode", ["pretrain", pytest.param("finetune", marks=pytest.mark.long)]
)
def test_a_step_compiles_and_stays_the_same(make_experiment, train_mode):
    """The complete step: blur, model, loss, gradients, LARS and the linear evaluation's head."""
    arguments = (batch(train_mode),)
    made, reference = make_experiment(train_mode), make_experiment(train_mode)
    step = compiled(made)
    assert_stays_on_the_device(step, *arguments)
    # The slots hold gradients, which a ReLU's input within rounding of 0 changes by a thousandth.
    assert_same_step(step, made, reference, *arguments, metrics=1e-5, weights=1e-5, slots=1e-2)


@pytest.mark.long
def test_a_compiled_step_differs_by_rounding_alone(float64, make_experiment):
    """Without blur, whose Gaussian weights are float32."""
    made, reference = (make_experiment("pretrain", "--use_blur=False") for _ in range(2))
    assert_same_step(
        compiled(made),
        made,
        reference,
        batch("pretrain"),
        metrics=1e-12,
        weights=1e-12,
        slots=1e-10,
    )


def test_an_evaluation_step_compiles_and_stays_the_same(make_experiment):
    model = make_experiment("finetune").model
    views, labels, skipped = batch("finetune")
    weights = tf.constant([1.0] * (BATCH - 2) + [0.0] * 2)
    evaluated = EvalBatch(views[:, 0], labels, weights, skipped)
    step = tf.function(lambda batch: evaluation_step(model, batch), jit_compile=True)
    assert_stays_on_the_device(step, evaluated)
    found = step(evaluated)
    for name, value in evaluation_step(model, evaluated).items():
        assert float(found[name]) == float(value), name
