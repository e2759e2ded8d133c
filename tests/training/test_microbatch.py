"""Micro-batches against as many replicas with global_bn=False, gradient by gradient."""

import types

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import replica_table
from tf_simclr import run_state
from tf_simclr.cli import flags
from tf_simclr.data.batch import ViewBatch
from tf_simclr.devices import workers
from tf_simclr.errors import ConfigError
from tf_simclr.models import resnet
from tf_simclr.training import microbatch
from tf_simclr.training.gradients import gradients as gradients_at_once
from tf_simclr.training.plan import Plan
from tf_simclr.training.train_step import sum_over_replicas

BATCH = 8
PLAN = Plan(num_train=BATCH, num_eval=1, total_steps=9, checkpoint_steps=9, eval_batches=1)


@pytest.fixture
def float64():
    replica_table.set_dtype("float64")
    yield
    replica_table.set_dtype("float32")


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Function: (strategy, flags) -> a run of a short ResNet-18 that has taken no step yet."""
    monkeypatch.setitem(resnet.BLOCKS_PER_GROUP, 18, (1, 1))
    monkeypatch.setattr(run_state.teacher, "Teacher", StubTeacher)

    def make(strategy, *arguments: str) -> run_state.RunState:
        config = flags.parse(
            [
                "",
                f"--model_dir={tmp_path}",
                "--image_size=16",
                "--resnet_depth=18",
                "--width_multiplier=0.125",
                "--proj_out_dim=8",
                f"--train_batch_size={BATCH}",
                f"--eval_batch_size={BATCH}",
                "--learning_rate=0.1",
                "--warmup_epochs=0",
                "--temperature=0.5",
                "--weight_decay=1e-2",
                "--seed=1",
                *arguments,
            ]
        ).config
        source = types.SimpleNamespace(num_classes=replica_table.NUM_CLASSES)
        made = run_state.build(config, source, PLAN, strategy)
        replica_table.set_weights(made.model)
        return made

    return make


def batch(pretraining: bool) -> ViewBatch:
    images, labels = replica_table.make_batch(BATCH, 16)
    views = images if pretraining else images[:, :1]
    return ViewBatch(views, labels, np.zeros(BATCH, np.float32))


def measured(made: run_state.RunState, *, pretraining: bool, graph: bool = False):
    """Metrics and gradients of a batch, and what the moving averages become."""
    strategy, paths = made.strategy, made.model.variables_by_path()
    path_of = {id(variable): path for path, variable in paths.items()}

    def replica(batch):
        targets, step = made.task.targets(batch.labels), made.optimizer.iterations
        if size := made.microbatch_size:
            metrics, found = microbatch.gradients(made.task, batch, targets, size=size, step=step)
        else:
            metrics, found = gradients_at_once(made.task, batch, targets, step=step)
        pairs = zip(found, made.task.trainable, strict=True)
        reached = [(gradient, v) for gradient, v in pairs if gradient is not None]
        summed = sum_over_replicas([gradient for gradient, _ in reached])
        summed = zip(summed, reached, strict=True)
        return metrics, {path_of[id(v)]: gradient for gradient, (_, v) in summed}

    parts = (np.split(array, strategy.num_replicas_in_sync) for array in batch(pretraining))
    distributed = ViewBatch(
        *(
            strategy.experimental_distribute_values_from_function(
                lambda context, part=part: tf.constant(part[context.replica_id_in_sync_group])
            )
            for part in parts
        )
    )
    run = lambda: strategy.run(replica, args=(distributed,))  # noqa: E731
    metrics, gradients = tf.function(run)() if graph else run()
    local = strategy.experimental_local_results
    metrics = {name: np.mean(local(value)) for name, value in metrics.items()}
    gradients = {path: local(value)[0].numpy() for path, value in gradients.items()}
    workers.average_over_replicas(strategy, made.model.per_replica_statistics())
    averages = {
        path: np.array(tf.convert_to_tensor(paths[path])) for path in paths if "/moving_" in path
    }
    return metrics, gradients, averages


def assert_same(found, expected, tolerance: float = 1e-9):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        scale = max(np.linalg.norm(value) for value in theirs.values())
        for name, value in theirs.items():
            apart = np.linalg.norm(ours[name] - value)
            assert apart <= tolerance * max(np.linalg.norm(value), 1e-3 * scale), name


MODES = {
    "pretraining": ("--train_mode=pretrain", "--use_blur"),
    "pretraining by blocks": ("--train_mode=pretrain", "--use_blur=False", "--loss_block_rows=3"),
    "fine-tuning": ("--train_mode=finetune", "--optimizer=momentum"),
    "the head alone": ("--train_mode=finetune", "--fine_tune_after_block=2"),
    "distillation": (
        "--train_mode=distill",
        "--teacher=stub",
        "--distill_label_weight=0.3",
        "--optimizer=momentum",
    ),
}


class StubTeacher:
    """In the place of a SavedModel: other logits for other images."""

    num_classes = replica_table.NUM_CLASSES

    def __init__(self, path, *, image_size):
        pass

    def __call__(self, images):
        means = tf.reduce_mean(images, axis=[1, 2])  # (n, 3)
        return 9.0 * tf.concat([means, means**2], axis=1)[:, : self.num_classes]


@pytest.mark.parametrize(
    "mode",
    [
        "pretraining",
        "fine-tuning",
        *(
            pytest.param(mode, marks=pytest.mark.long)
            for mode in MODES
            if mode not in ("pretraining", "fine-tuning")
        ),
    ],
)
def test_micro_batches_are_replicas_of_local_statistics(float64, replicas, make, mode):
    pretraining = mode.startswith("pretraining")
    several = make(replicas(4), *MODES[mode], "--global_bn=False")
    expected = measured(several, pretraining=pretraining)
    assert all(np.linalg.norm(gradient) > 1e-8 for gradient in expected[1].values())
    one = make(tf.distribute.OneDeviceStrategy("CPU:0"), *MODES[mode], "--microbatch_size=2")
    found = measured(one, pretraining=pretraining, graph=True)
    assert_same(found, expected)
    whole = make(tf.distribute.OneDeviceStrategy("CPU:0"), *MODES[mode], "--microbatch_size=8")
    whole = measured(whole, pretraining=pretraining)
    if mode != "the head alone":  # nothing else normalizes by the batch
        assert abs(whole[0]["total_loss"] / found[0]["total_loss"] - 1) > 1e-3


def test_micro_batches_of_replicas(float64, replicas, make):
    """Two micro-batches on each of two replicas; global_bn is for whole ones only."""
    expected = make(replicas(4), "--global_bn=False")
    found = make(replicas(2), "--microbatch_size=2")
    assert_same(measured(found, pretraining=True), measured(expected, pretraining=True))


@pytest.mark.parametrize("mode", ["pretraining", "fine-tuning"])
@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("float16", marks=pytest.mark.long)])
def test_half_precision(replicas, make, mode, precision):
    """As in float64, to a hundredth of what rounding to half precision changes."""
    pretraining, flags = mode == "pretraining", (*MODES[mode], f"--precision={precision}")
    expected = make(replicas(4), *flags, "--global_bn=False")
    found = make(tf.distribute.OneDeviceStrategy("CPU:0"), *flags, "--microbatch_size=2")
    assert_same(
        *(measured(made, pretraining=pretraining) for made in (found, expected)), tolerance=3e-4
    )


def test_frozen_averages_stay_to_the_bit(make):
    made = make(
        tf.distribute.OneDeviceStrategy("CPU:0"),
        *MODES["the head alone"],
        "--train_batch_size=9",
        "--microbatch_size=3",
    )
    rng = np.random.default_rng(0)
    frozen = {
        path: variable
        for path, variable in made.model.variables_by_path().items()
        if path.startswith("base_model") and "/moving_" in path
    }
    for average in frozen.values():
        average.assign(rng.uniform(0.1, 2.0, size=average.shape))
    before = {path: np.array(tf.convert_to_tensor(v)) for path, v in frozen.items()}
    images, labels = replica_table.make_batch(9, 16)
    whole = ViewBatch(tf.constant(images[:, :1]), tf.constant(labels), tf.zeros(9))
    tf.function(made.train_step)(whole)
    for path, average in frozen.items():
        np.testing.assert_array_equal(tf.convert_to_tensor(average), before[path], err_msg=path)


def test_one_micro_batch_a_replica_keeps_the_statistics_of_all(replicas, make):
    synchronized = {
        size: {layer.synchronized for layer in made.model._batch_norms()}
        for size in (2, 4)
        for made in [make(replicas(2), f"--microbatch_size={size}")]
    }
    assert synchronized == {2: {False}, 4: {True}}


@pytest.mark.long
def test_a_step_compiles(make):
    compiled, eager = (
        make(tf.distribute.OneDeviceStrategy("CPU:0"), "--microbatch_size=4") for _ in range(2)
    )
    argument = ViewBatch(*(tf.constant(a) for a in batch(True)))
    found = tf.function(compiled.train_step, jit_compile=True)(argument)
    for name, value in eager.train_step(argument).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)
    values = [
        {path: np.array(tf.convert_to_tensor(v)) for path, v in m.model.variables_by_path().items()}
        for m in (compiled, eager)
    ]
    assert replica_table.difference(*values) < 1e-4


def test_views_are_joined_and_split():
    whole = tf.reshape(tf.range(24.0), (12, 2))
    parts = microbatch._split_views(whole, 3)  # two micro-batches of three images
    np.testing.assert_array_equal(parts[0, :, 0], [0, 2, 4, 12, 14, 16])
    np.testing.assert_array_equal(microbatch._join_views(parts), whole)


def test_a_size_that_does_not_divide_is_refused(make, replicas):
    with pytest.raises(ConfigError, match="microbatch_size.*the 4 images.*got 3.*nearest is 2"):
        make(replicas(2), "--microbatch_size=3")
