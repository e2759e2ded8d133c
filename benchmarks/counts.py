"""Counts the collectives of a BN layer and of a training step, and checks the formulas."""

import dataclasses

import keras
import tensorflow as tf

from benchmarks import local, network, scaling
from benchmarks.collectives import Collective, count, total_bytes
from benchmarks.report import Row
from tf_simclr.config import Config, Model
from tf_simclr.data.batch import ViewBatch
from tf_simclr.models.simclr import SimCLR
from tf_simclr.optim import policy
from tf_simclr.training.tasks import make_task
from tf_simclr.training.train_step import train_step

NUM_CLASSES, IMAGE_SIZE, STEP_BATCH_SIZE = 10, 32, 2
BN_CHANNELS = 64  # channels of the single layer


@dataclasses.dataclass(frozen=True)
class Settings:
    """Holds the settings of `communication.add_arguments`."""

    batch: list[int]
    dim: int
    resnet_depth: int
    width_multiplier: float
    repetitions: int

    @property
    def model_name(self) -> str:
        """Returns the name of the model, for example "ResNet-18 (0.5x)"."""
        return f"ResNet-{self.resnet_depth} ({self.width_multiplier:g}x)"

    def model_size(self) -> network.Network:
        """Computes the size of the model of `step_collectives` by formula."""
        return network.simclr(
            resnet_depth=self.resnet_depth,
            width_multiplier=self.width_multiplier,
            small_stem=True,
            num_classes=NUM_CLASSES,
            proj_out_dim=self.dim,
        )


def rows(replicas: int, settings: Settings) -> list[Row]:
    """Counts the collectives of a BN layer and of a training step. Call it in a new process."""
    strategy = local.make_strategy(replicas)
    setting = f"R = {replicas}, {BN_CHANNELS} channels"
    forward, both_directions = batch_norm_collectives(strategy)
    expected = scaling.batch_norm_forward([BN_CHANNELS])
    rows = _against_formula("BN layer, forward", setting, forward, expected)
    expected = scaling.batch_norm([BN_CHANNELS])
    rows += _against_formula("BN layer, forward and backward", setting, both_directions, expected)
    return rows + step_rows(strategy, replicas, settings)


def step_rows(
    strategy: tf.distribute.Strategy, replicas: int, settings: Settings, where: str = ""
) -> list[Row]:
    """Counts the collectives of a training step; `where` is appended to the setting."""
    setting = f"R = {replicas}, n = {STEP_BATCH_SIZE}, d = {settings.dim}, {settings.model_name}"
    setting += where
    sizes = settings.model_size(), STEP_BATCH_SIZE, settings.dim, replicas
    rows = []
    for what, scheme, block_rows in (
        ("training step", scaling.DENSE, STEP_BATCH_SIZE),
        ("training step by blocks", scaling.BLOCKS, 1),
    ):
        counted = step_collectives(strategy, settings, block_rows=block_rows)
        rows += _against_formula(what, setting, counted, scaling.step(*sizes, scheme=scheme))
    return rows


def batch_norm_collectives(
    strategy: tf.distribute.Strategy,
) -> tuple[list[Collective], list[Collective]]:
    """Counts a Keras layer's collectives: (forward), (forward and backward)."""
    with strategy.scope():
        layer = keras.layers.BatchNormalization(synchronized=True)
        layer.build((None, BN_CHANNELS))
    images = local.random(strategy, (STEP_BATCH_SIZE, BN_CHANNELS))

    def forward(x):
        return layer(x, training=True)

    def both_directions(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(forward(x) ** 3)
        return tape.gradient(loss, x)

    return count(strategy, forward, images), count(strategy, both_directions, images)


def step_collectives(
    strategy: tf.distribute.Strategy, settings: Settings, *, block_rows: int
) -> list[Collective]:
    """Counts the collectives of a pretraining step with LARS and NT-Xent in blocks of rows."""
    with strategy.scope():
        model = SimCLR(
            NUM_CLASSES,
            image_size=IMAGE_SIZE,
            network=Model(
                resnet_depth=settings.resnet_depth,
                width_multiplier=settings.width_multiplier,
                proj_out_dim=settings.dim,
            ),
            stop_supervised_gradient=True,
        )
        optimizer = policy.make_optimizer(model, "lars", 0.1, momentum=0.9, weight_decay=1e-6)
    config = Config().replace(weight_decay=1e-6, loss_block_rows=block_rows, use_blur=False, seed=1)
    task = make_task(config, model)

    def step(images):
        views = tf.stack(tf.split(images, 2, axis=-1), axis=1)
        labels = tf.one_hot(tf.range(STEP_BATCH_SIZE), NUM_CLASSES)
        batch = ViewBatch(views, labels, tf.zeros(STEP_BATCH_SIZE))
        return train_step(task, optimizer, batch)

    images = local.random(strategy, (STEP_BATCH_SIZE, IMAGE_SIZE, IMAGE_SIZE, 6))
    return count(strategy, step, images)


def _against_formula(what: str, setting: str, counted: list, expected: list) -> list[Row]:
    return [
        Row(
            f"{what}: collectives, against formula",
            setting,
            "count",
            len(counted),
            len(expected),
            "counted",
        ),
        Row(
            f"{what}: collective inputs, against formula",
            setting,
            "bytes",
            total_bytes(counted),
            total_bytes(expected),
            "counted",
        ),
    ]
