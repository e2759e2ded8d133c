"""Makes the training steps that `step` compares: ours and plain versions of the official code's."""

from collections.abc import Callable
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from benchmarks import matrix_ops
from benchmarks.loss import official_loss
from tf_simclr.config import Config
from tf_simclr.data.batch import ViewBatch
from tf_simclr.devices import strategies
from tf_simclr.models import from_config, layers
from tf_simclr.optim import policy
from tf_simclr.optim.loss_scale import LossScale
from tf_simclr.training.loss_terms import Targets, supervised_loss
from tf_simclr.training.tasks import Pretrain, make_task
from tf_simclr.training.train_step import train_step

UNFUSED = "+unfused"
OFFICIAL, NAIVE = "official", "naive bfloat16"


class Step:
    """Runs a training step on a batch in memory; a call returns when the step is done."""

    def __init__(
        self,
        config: Config,
        step: Callable,
        strategy: tf.distribute.Strategy,
        *,
        jit_compile: bool = False,
    ) -> None:
        size = config.data.image_size
        n = config.training.train_batch_size // strategy.num_replicas_in_sync
        rng = np.random.default_rng(0)

        def replica_batch(context) -> ViewBatch:
            del context
            images = tf.constant(rng.uniform(size=(n, 2, size, size, 3)), tf.float32)
            return ViewBatch(images, tf.one_hot(tf.range(n) % 10, 10), tf.zeros(n))

        self._strategy = strategy
        self._step = tf.function(
            lambda batch: strategy.run(step, args=(batch,)),
            autograph=False,
            # TPUs compile the step by themselves.
            jit_compile=(jit_compile and not strategies.is_tpu(strategy)) or None,
        )
        self._batch = strategy.experimental_distribute_values_from_function(replica_batch)

    def __call__(self) -> float:
        metrics = self._step(self._batch)
        return float(self._strategy.experimental_local_results(metrics["total_loss"])[0])

    def flops(self) -> int:
        """Counts the multiplications and additions of all replicas' convolutions and products."""
        # The graph is the executed one if XLA does not compile it. For a TPU it has one replica.
        flops = matrix_ops.matrix_flops(self._step.get_concrete_function(self._batch).graph)
        return flops * (
            self._strategy.num_replicas_in_sync if strategies.is_tpu(self._strategy) else 1
        )


def settings(side: str, config: Config) -> Config:
    """Returns the settings of one of our sides, such as "bfloat16" or "float32+unfused"."""
    return config.replace(
        precision=side.removesuffix(UNFUSED), fused_batch_norm=not side.endswith(UNFUSED)
    )


def precision(side: str) -> str:
    """Returns the precision of most of a side's convolutions and matrix products."""
    return {OFFICIAL: "float32", NAIVE: "bfloat16"}.get(side, side.removesuffix(UNFUSED))


def make(side: str, config: Config, strategy: tf.distribute.Strategy) -> Step:
    """Makes the step of a side: OFFICIAL, NAIVE, or one of ours."""
    if side in (OFFICIAL, NAIVE):
        return official(config, strategy, naive=side == NAIVE)
    return ours(settings(side, config), strategy)


def on_demand(side: str, config: Config) -> Callable[[], None]:
    """Returns a function that takes a step of a side; its first call builds the model."""
    steps: list[Step] = []

    def call() -> None:
        if not steps:
            steps.append(make(side, config, strategies.make_strategy()))
        steps[0]()

    return call


def ours(config: Config, strategy: tf.distribute.Strategy) -> Step:
    """Makes the step of `run.py` with these settings."""
    with strategy.scope():
        model, optimizer = _make_parts(config)
        scale = LossScale() if config.training.precision == "float16" else None
    task = make_task(config, model)

    def step(batch: ViewBatch):
        return train_step(task, optimizer, batch, loss_scale=scale)

    return Step(config, step, strategy, jit_compile=config.training.jit_compile)


class OfficialPretrain(Pretrain):
    """Pretrains with the official code's loss."""

    def loss(self, outputs: dict[str, tf.Tensor], targets: Targets | None) -> dict[str, tf.Tensor]:
        """Computes only the total loss ()."""
        assert targets is not None
        value = official_loss(outputs["proj_head_output"], temperature=self.temperature)
        value += self.weight_decay.loss()
        both_views = targets.of_both_views()
        value += supervised_loss(outputs["logits_sup"], both_views)["supervised_loss"]
        return {"total_loss": value}


def official(config: Config, strategy: tf.distribute.Strategy, *, naive: bool = False) -> Step:
    """Makes the official code's step; with `naive`, its encoder computes in bfloat16."""

    def batch_norm(*, fused_in_float32, **settings):
        del fused_in_float32  # the official code has no such argument
        return keras.layers.BatchNormalization(**settings)

    with mock.patch.object(layers, "BatchNorm", batch_norm), strategy.scope():
        model, optimizer = _make_parts(config.replace(precision="bfloat16" if naive else "float32"))
    ours = make_task(config, model)
    task = OfficialPretrain(
        ours.model, ours.device_views, ours.weight_decay, temperature=config.loss.temperature
    )
    return Step(config, lambda batch: train_step(task, optimizer, batch), strategy)


def _make_parts(config: Config):
    model = from_config.make_model(config, 10)
    optimizer = policy.make_optimizer(
        model,
        config.optimizer.optimizer,
        0.1,
        momentum=config.optimizer.momentum,
        weight_decay=config.optimizer.weight_decay,
    )
    return model, optimizer
