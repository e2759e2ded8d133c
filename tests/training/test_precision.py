"""Runs under mixed precision: steps, checkpoints across precisions, and SavedModels."""

import types

import numpy as np
import pytest
import tensorflow as tf

from tf_simclr import compat, run_state
from tf_simclr.cli import flags
from tf_simclr.data.batch import ViewBatch
from tf_simclr.errors import ConfigError
from tf_simclr.models import resnet
from tf_simclr.modes.export import Exporter
from tf_simclr.training import train_step
from tf_simclr.training.gradients import gradients
from tf_simclr.training.plan import Plan

BATCH, CLASSES = 8, 5
PLAN = Plan(num_train=64, num_eval=8, total_steps=100, checkpoint_steps=100, eval_batches=1)
RNG = np.random.default_rng(0)
IMAGES = tf.constant(RNG.uniform(size=(BATCH, 2, 16, 16, 3)), tf.float32)
LABELS = tf.one_hot(tf.range(BATCH) % CLASSES, CLASSES)


@pytest.fixture
def make_run(tmp_path, monkeypatch, replicas):
    """Function: (precision, train_mode, replicas) -> a run of a short ResNet-18."""
    monkeypatch.setitem(resnet.BLOCKS_PER_GROUP, 18, (1, 1, 1, 1))

    def make(precision: str, train_mode="pretrain", number=1) -> run_state.RunState:
        config = flags.parse(
            [
                "",
                f"--train_mode={train_mode}",
                f"--model_dir={tmp_path}",
                "--image_size=16",
                "--resnet_depth=18",
                "--width_multiplier=0.125",
                "--proj_out_dim=16",
                f"--train_batch_size={BATCH}",
                f"--eval_batch_size={BATCH}",
                "--learning_rate=30",
                "--warmup_epochs=0",
                "--temperature=0.5",
                "--use_blur=False",
                "--seed=1",
                f"--precision={precision}",
            ]
        ).config
        source = types.SimpleNamespace(num_classes=CLASSES, class_names=None)
        return run_state.build(config, source, PLAN, replicas(number))

    return make


def step(run, images=IMAGES) -> dict[str, float]:
    """One step, a slice of the batch on each replica."""
    number = run.strategy.num_replicas_in_sync
    views = 2 if run.config.training.train_mode == "pretrain" else 1

    def part(array):
        def own(context):
            return tf.split(array, number)[context.replica_id_in_sync_group]

        return run.strategy.experimental_distribute_values_from_function(own)

    batch = ViewBatch(part(images[:, :views]), part(LABELS), part(tf.zeros(BATCH)))
    metrics = tf.function(run.strategy.run)(run.train_step, args=(batch,))
    return {
        name: float(run.strategy.reduce("MEAN", value, axis=None))
        for name, value in metrics.items()
    }


def everything(run) -> dict[str, np.ndarray]:
    """Weights and slots."""
    slots = compat.optimizer_slots(run.optimizer)["momentum"]
    named = run.model.variables_by_path() | {f"slot {i}": slot for i, slot in enumerate(slots)}
    return {name: np.array(tf.convert_to_tensor(variable)) for name, variable in named.items()}


def assert_equal(found: dict, expected: dict):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize(
    "precision, loss", [("bfloat16", 0.02), pytest.param("float16", 0.003, marks=pytest.mark.long)]
)
def test_a_step_is_that_of_float32_within_the_precision(make_run, precision, loss):
    """A small, random network lets a rounding error grow: float32 itself says how much.

    Rounding everything must not change a step by more than four times what rounding the images
    alone changes of the encoder's in float32.
    """
    plain, mixed, rounded = make_run("float32"), make_run(precision), make_run("float32")
    before = everything(plain)
    assert_equal(everything(mixed), before)
    if mixed.loss_scale:  # the first is too large for this batch
        mixed.loss_scale.variables["scale"].assign(64.0)
    expected, found = step(plain), step(mixed)
    step(rounded, tf.cast(tf.cast(IMAGES, precision), tf.float32))
    of_the_scale = {"loss_scale", "skipped_steps"} if precision == "float16" else set()
    assert set(found) - set(expected) == of_the_scale
    assert set(mixed.metric_names) == set(found)
    for name in ("contrast_loss", "supervised_loss"):
        assert found[name] == pytest.approx(expected[name], rel=loss), name
    after = everything(plain)
    assert {value.dtype for value in everything(mixed).values()} == {np.dtype(np.float32)}

    def difference(run, group):
        """Of the run's step from the plain one's, in parts of that."""
        there = everything(run)
        parts = [(there[p] - after[p], after[p] - before[p]) for p in before if p.startswith(group)]
        there, own = (np.concatenate([d.ravel() for d in ds]) for ds in zip(*parts, strict=True))
        return np.linalg.norm(there) / np.linalg.norm(own)

    grown = difference(rounded, "base_model")
    for group in ("base_model", "head_contrastive", "head_supervised", "slot"):
        assert 0 < difference(mixed, group) < 4 * grown, group


@pytest.mark.long
def test_global_bn_over_replicas_under_bfloat16(make_run):
    single, several = make_run("bfloat16"), make_run("bfloat16", number=2)
    expected, found = step(single), step(several)
    for name in ("contrast_loss", "supervised_loss"):
        assert found[name] == pytest.approx(expected[name], rel=0.02), name


@pytest.mark.long
def test_checkpoints_go_from_precision_to_precision(make_run):
    """float32 -> float16 -> float16 (the scale goes on) -> bfloat16 -> float32."""
    first = make_run("float32")
    step(first)
    first.checkpointer.save()
    half = make_run("float16")
    assert half.checkpointer.restore_latest().endswith("ckpt-1")
    assert_equal(everything(half), everything(first))
    half.loss_scale.variables["scale"].assign(2.0**40)  # so large that a step must be skipped
    weights = everything(half)
    skipped = step(half)
    assert np.isfinite(skipped["total_loss"]) and skipped["skipped_steps"] == 1
    kept = {name: value for name, value in everything(half).items() if "moving_" not in name}
    assert_equal(kept, {name: weights[name] for name in kept})
    half.checkpointer.save()
    resumed = make_run("float16")
    assert resumed.checkpointer.restore_latest().endswith("ckpt-2")
    assert float(resumed.loss_scale.read()) == float(half.loss_scale.read()) == 2.0**39
    assert step(resumed) == step(half)
    assert_equal(everything(resumed), everything(half))
    resumed.checkpointer.save()
    for precision in ("bfloat16", "float32"):
        run = make_run(precision)
        assert run.checkpointer.restore_latest().endswith("ckpt-3")
        assert_equal(everything(run), everything(resumed))


@pytest.mark.long
def test_gradients_that_no_scale_makes_finite_end_the_run(make_run, monkeypatch):
    """Which would go on for ever with finite losses, and learn nothing."""
    run = make_run("float16")
    run.loss_scale.variables["scale"].assign(2.0)

    def overflowing(*arguments, **settings):
        metrics, found = gradients(*arguments, **settings)
        return metrics, [None if g is None else g * float("inf") for g in found]

    monkeypatch.setattr(train_step, "gradients", overflowing)
    first, second = step(run), step(run)
    assert (first["loss_scale"], first["skipped_steps"]) == (2, 1)
    assert np.isfinite(first["total_loss"])
    assert second["loss_scale"] == 1 and np.isnan(second["total_loss"])


def test_float16_is_refused_on_a_tpu(make_run, monkeypatch, replicas):
    monkeypatch.setattr(tf.distribute, "TPUStrategy", type(replicas(1)))
    with pytest.raises(ConfigError, match="precision must be bfloat16 or float32 on a TPU"):
        make_run("float16")
    make_run("bfloat16")


@pytest.mark.long
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_fine_tuning_and_its_saved_model(make_run, tmp_path, precision):
    run = make_run(precision, train_mode="finetune")
    assert np.isfinite(list(step(run).values())).all()
    loaded = tf.saved_model.load(Exporter(run).export_latest())
    assert {tf.as_dtype(v.dtype) for v in loaded.variables} == {tf.float32}
    images = IMAGES[:, 0]
    run.checkpointer.save()
    plain = make_run("float32", train_mode="finetune")
    plain.checkpointer.restore_latest()
    found, expected = loaded(images, trainable=False), plain.model(images, training=False)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value.dtype == tf.float32
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
    (images_spec,) = loaded.signatures["endpoints"].structured_input_signature[1].values()
    assert images_spec.dtype == tf.float32
