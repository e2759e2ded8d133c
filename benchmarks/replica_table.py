"""Trains on the same batch with 1, 2 and 4 replicas and prints how much the results differ.

    python -m benchmarks replicas --save=keras2.npz
    python -m benchmarks replicas --against=keras2.npz      # on the other stack

The replicas are parts of one CPU. Both stacks start from the same weights. A difference is the
largest value of |weights - weights of one replica| / |weights of one replica| over the variables
(moving averages included), in Euclidean norms. "Reordered" is one replica that sees the batch in
another order. It sums the same terms, so its difference is only rounding.
"""

import argparse
import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_simclr.config import Config, Model
from tf_simclr.data.batch import ViewBatch
from tf_simclr.devices import workers
from tf_simclr.models.simclr import SimCLR
from tf_simclr.optim import policy
from tf_simclr.training.gradients import gradients
from tf_simclr.training.tasks import make_task
from tf_simclr.training.train_step import sum_over_replicas, train_step

NUM_STEPS = 5
NUM_CLASSES = 5
REPLICAS = (1, 2, 4)
BATCH_SIZE, IMAGE_SIZE, WIDTH_MULTIPLIER = 32, 32, 0.25
LEARNING_RATE = 0.005  # as in the first steps of the published runs' warm-up
WEIGHT_DECAY = 1e-4
MODELS: dict[str, tuple[str, dict[str, Any]]] = {  # row -> (train_mode, settings of Model)
    "pretraining, ResNet-18": ("pretrain", dict(resnet_depth=18)),
    "fine-tuning, ResNet-18": ("finetune", dict(resnet_depth=18)),
    "pretraining, ResNet-50 SK": ("pretrain", dict(resnet_depth=50, sk_ratio=0.0625)),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """Holds the results of a training; variables are named by their paths."""

    losses: tuple[float, float]  # of the whole batch, before the first and after the last step
    gradients: dict[str, np.ndarray]  # before the first step
    weights: dict[str, np.ndarray]  # after the last step, moving averages included


def set_dtype(dtype: str) -> None:
    """Sets the dtype, "float32" or "float64", of batches and of models built from now on."""
    keras.backend.set_floatx(dtype)
    keras.mixed_precision.set_global_policy(dtype)  # Keras 3 reads floatx only once


def make_batch(batch_size: int, image_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws cloudy, noisy views (n, 2, s, s, 3) in [0, 1] and one-hot labels (n, NUM_CLASSES)."""
    rng = np.random.default_rng(0)
    clouds = rng.normal(size=(batch_size, image_size // 4, image_size // 4, 6))
    clouds = tf.image.resize(clouds, (image_size, image_size), "bicubic").numpy()
    images = np.clip(0.5 + 0.25 * clouds + 0.15 * rng.normal(size=clouds.shape), 0, 1)
    images = np.stack(np.split(images, 2, axis=-1), axis=1)
    labels = np.eye(NUM_CLASSES)[rng.integers(NUM_CLASSES, size=batch_size)]
    return images.astype(keras.backend.floatx()), labels.astype(keras.backend.floatx())


def set_weights(model: SimCLR) -> None:
    """Sets each variable to nonzero random values that depend only on its path.

    The last gamma of a block is small, because it starts at 0 in training.
    """
    variables = model.variables_by_path()
    closing = "conv3" if any("/conv3/" in path for path in variables) else "conv2"
    for path, variable in variables.items():
        rng = np.random.default_rng(list(path.encode()))
        shape = tuple(variable.shape)
        if path.endswith("/kernel"):
            value = rng.normal(size=shape) / np.prod(shape[:-1]) ** 0.5
        elif path.endswith(("/gamma", "/moving_variance")):
            value = rng.uniform(0.5, 1.5, shape)
            value *= 0.2 if path.endswith(f"/{closing}/bn/gamma") else 1.0
        else:
            value = rng.normal(size=shape) * 0.1
        variable.assign(value.astype(np.float32))


def train(
    strategy: tf.distribute.Strategy,
    make_model: Callable[[], SimCLR],
    batch: Sequence[np.ndarray],
    *,
    train_mode: str,
    learning_rate: float,
) -> Run:
    """Takes NUM_STEPS LARS steps from `set_weights` on one batch.

    Args:
      strategy: its replicas share the batch, in order.
      make_model: builds the model; called in the strategy's scope.
      batch: images and labels as `make_batch` returns them; fine-tuning uses the first view.
      train_mode: "pretrain" (with linear evaluation) or "finetune".
      learning_rate: constant.
    """
    with strategy.scope():
        model = make_model()
        optimizer = policy.make_optimizer(
            model, "lars", learning_rate, momentum=0.9, weight_decay=WEIGHT_DECAY
        )
    variables = model.variables_by_path()
    path_of = {id(variable): path for path, variable in variables.items()}
    config = Config().replace(
        train_mode=train_mode, temperature=0.5, weight_decay=WEIGHT_DECAY, use_blur=False, seed=1
    )
    task = make_task(config, model)

    def replica_batch(images, labels):
        views = images if train_mode == "pretrain" else images[:, :1]
        return ViewBatch(views, labels, tf.zeros(len(labels)))

    def measure(images, labels):
        targets = task.targets(labels)
        metrics, local_gradients = gradients(task, replica_batch(images, labels), targets, step=0)
        pairs = zip(local_gradients, task.trainable, strict=True)
        reached = {path_of[id(v)]: gradient for gradient, v in pairs if gradient is not None}
        summed = sum_over_replicas(list(reached.values()))
        return metrics["total_loss"], dict(zip(reached, summed, strict=True))

    def step(images, labels):
        train_step(task, optimizer, replica_batch(images, labels))

    local_batch = tuple(
        strategy.experimental_distribute_values_from_function(
            lambda context, parts=parts: tf.constant(parts[context.replica_id_in_sync_group])
        )
        for parts in (np.split(array, strategy.num_replicas_in_sync) for array in batch)
    )
    # No tf.function here, because tracing a model for several replicas takes minutes.
    set_weights(model)
    first_loss, first_gradients = strategy.run(measure, args=local_batch)
    set_weights(model)  # because measuring has changed the moving averages
    for _ in range(NUM_STEPS):
        strategy.run(step, args=local_batch)
    workers.average_over_replicas(strategy, model.per_replica_statistics())  # as a checkpoint does
    weights = {path: np.array(tf.convert_to_tensor(v)) for path, v in variables.items()}
    last_loss, _ = strategy.run(measure, args=local_batch)
    local = strategy.experimental_local_results
    losses = np.mean(local(first_loss)), np.mean(local(last_loss))
    first = {path: local(gradient)[0].numpy() for path, gradient in first_gradients.items()}
    return Run(losses, first, weights)


def difference(weights: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """Returns the largest relative difference of a variable, in Euclidean norms."""
    norms = {p: (np.linalg.norm(weights[p] - v), np.linalg.norm(v)) for p, v in expected.items()}
    return float(np.max([apart and apart / norm for apart, norm in norms.values()]))  # 0 / 0: 0


def row(name: str, dtype: str, strategies: dict) -> tuple[list[str], dict[str, np.ndarray]]:
    """Computes the cells of a row and the weights of one replica."""
    set_dtype(dtype)
    train_mode, settings = MODELS[name]
    make_model = functools.partial(
        SimCLR,
        NUM_CLASSES,
        image_size=IMAGE_SIZE,
        network=Model(width_multiplier=WIDTH_MULTIPLIER, **settings),
        stop_supervised_gradient=train_mode == "pretrain",
    )
    train_model = functools.partial(
        train, make_model=make_model, train_mode=train_mode, learning_rate=LEARNING_RATE
    )
    batch = make_batch(BATCH_SIZE, IMAGE_SIZE)
    runs = [train_model(strategies[number], batch=batch) for number in REPLICAS]
    reordered = train_model(strategies[1], batch=[array[::-1] for array in batch])
    cells = [" / ".join(f"{run.losses[i]:.7g}" for run in runs) for i in (0, 1)]
    cells += [f"{difference(run.weights, runs[0].weights):.0e}" for run in (reordered, *runs[1:])]
    return [name, dtype, *cells], runs[0].weights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this subcommand."""
    parser.add_argument("--save", help="file (npz) that receives the weights of one replica")
    parser.add_argument("--against", help="file written by --save, to compare with")


def run(args: argparse.Namespace) -> None:
    """Prints the table."""
    parts = [tf.config.LogicalDeviceConfiguration()] * max(REPLICAS)
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    # The default collectives of several strategies clash in one process.
    reduction = tf.distribute.ReductionToOneDevice()
    strategies = {
        number: tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(number)], reduction)
        for number in REPLICAS
    }
    other = dict(np.load(args.against)) if args.against else None
    columns = [
        "model",
        "dtype",
        "loss at step 1 on 1 / 2 / 4 replicas",
        f"after {NUM_STEPS} steps",
        "difference: reordered",
        "2 replicas",
        "4 replicas",
    ]
    columns += ["the other stack"] * bool(other)
    print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}\n")
    print(f"| {' | '.join(columns)} |\n{'| --- ' * len(columns)}|")
    saved: dict[str, np.ndarray] = {}
    for name, dtype in itertools.product(MODELS, ("float32", "float64")):
        cells, weights = row(name, dtype, strategies)
        weights = {f"{name}, {dtype}: {path}": value for path, value in weights.items()}
        if other:
            cells.append(f"{difference(weights, {path: other[path] for path in weights}):.0e}")
        print(f"| {' | '.join(cells)} |", flush=True)
        saved |= weights
    set_dtype("float32")
    if args.save:
        np.savez(args.save, **saved)
