"""What a replica of the accelerators' presets runs compiles ahead of time, as a TPU needs it.

The presets keep all of their settings, 224 pixels and the augmentation on the device included. Only
width, depth and batch are shrunk. The compiler is the CPU's, up to the HLO before optimization.
"""

import types

import numpy as np
import pytest
import tensorflow as tf

import small
import xla_ops
from tf_simclr import run_state
from tf_simclr.data.batch import CropBatch, EvalBatch, num_views
from tf_simclr.devices import strategies
from tf_simclr.modes import train
from tf_simclr.training.evaluator import evaluation_step
from tf_simclr.training.plan import Plan

BATCH, SIZE, CLASSES = 4, 224, 1000
PLAN = Plan(num_train=64, num_eval=8, total_steps=100, checkpoint_steps=100, eval_batches=1)
HALF = ("--precision=bfloat16", "--augment_on=device")
RUNS = {
    "pretraining on a TPU": ("imagenet_resnet50_tpu",),
    "pretraining on a GPU": ("imagenet_resnet50_a100",),
    "pretraining of SimCLRv2": ("simclrv2_resnet152_3x_sk", *HALF),
    "linear evaluation": ("imagenet_linear_eval", *HALF, "--checkpoint=a"),
    "fine-tuning": ("simclrv2_finetune_10pct", *HALF, "--checkpoint=a"),
}


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Function: (preset, flags) -> a run of it that has taken no step, as on an accelerator."""
    monkeypatch.setattr(strategies, "on_cpu", lambda strategy: False)

    def build(preset: str, *arguments: str) -> run_state.RunState:
        config = small.parse(
            f"--gin_file={preset}",
            f"--model_dir={tmp_path}",
            "--width_multiplier=0.125",
            f"--train_batch_size={BATCH}",
            f"--eval_batch_size={BATCH}",
            "--seed=1",
            *arguments,
        )
        assert (config.data.image_size, config.augment.augment_on) == (SIZE, "device")
        source = types.SimpleNamespace(num_classes=CLASSES)  # no step reads it
        with small.one_block_a_group():
            return run_state.build(config, source, PLAN, tf.distribute.OneDeviceStrategy("CPU:0"))

    return build


def crops(train_mode: str) -> CropBatch:
    """A training batch as the host sends it."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (BATCH, num_views(train_mode), SIZE, SIZE, 3), np.uint8)
    labels = tf.one_hot(tf.range(BATCH), CLASSES)
    return CropBatch(tf.constant(pixels), labels, tf.zeros(BATCH))


def replica_step(state: run_state.RunState, batch: CropBatch, monkeypatch):
    """The function that the loop of steps runs on each replica, compiled by XLA; its arguments."""
    functions, run = [], state.strategy.run

    def record(function, args):
        functions.append(function)
        return run(function, args=args)

    dataset = tf.data.Dataset.from_tensors(batch).repeat()
    iterator = iter(state.strategy.distribute_datasets_from_function(lambda _: dataset))
    with monkeypatch.context() as patch:
        patch.setattr(state.strategy, "run", record)
        train.make_run_steps(state).get_concrete_function(iterator, tf.constant(1))
    return tf.function(
        lambda *arguments: run(functions[0], args=arguments), autograph=False, jit_compile=True
    )


@pytest.mark.long
@pytest.mark.parametrize("name", RUNS)
def test_the_step_of_a_preset_compiles_with_ops_that_tpus_take(name, build, monkeypatch):
    """Augmentation, model, loss, gradients, optimizer, metrics and the summary's pictures."""
    state = build(*RUNS[name])
    batch = crops(state.config.training.train_mode)
    step = replica_step(state, batch, monkeypatch)
    xla_ops.assert_stays_on_the_device(step, batch, tf.constant(True))


@pytest.mark.long
def test_the_evaluation_of_a_preset_compiles_with_ops_that_tpus_take(build):
    model = build("imagenet_linear_eval", *HALF, "--checkpoint=a").model
    images = tf.zeros((BATCH, SIZE, SIZE, 3))
    batch = EvalBatch(images, tf.one_hot(tf.range(BATCH), CLASSES), tf.ones(BATCH), tf.zeros(BATCH))
    step = tf.function(lambda batch: evaluation_step(model, batch), jit_compile=True)
    xla_ops.assert_stays_on_the_device(step, batch)


def test_what_tpus_refuse_is_found():
    """An op of the host, a string, float64 and a shape that depends on values."""

    @tf.function
    def call(x):
        tf.print("text", x)
        tf.py_function(lambda: None, [], [])
        return tf.cast(x, tf.float64)

    faults = xla_ops.graph_faults(call.get_concrete_function(tf.ones(2)).graph)
    assert {"StringFormat", "PrintV2", "EagerPyFunc", "Cast of float64"} <= faults
    program = """
      %a = f32[8,3]{1,0} add(%b, %b)
      %c = f32[] reduce(%a)
      %d = f64[8]{0} dot(%a, %a)
      %e = f32[<=8,3]{1,0} custom-call(%d)
      ROOT %f = (u64[2], u32[4]) rng-bit-generator(%e), algorithm=rng_three_fry
    """
    assert xla_ops.hlo_faults(program) == {"f64[", "f32[<=8,3]", "custom-call", "rng_three_fry"}
