"""Trains the same batch on 1, 2 and 4 replicas and prints by how much their numbers differ.

    python tools/replica_table.py --save=keras2.npz
    python tools/replica_table.py --against=keras2.npz      # on the other stack

The replicas are parts of one CPU; both stacks begin with the same weights. A difference is the
largest over the variables, with their moving averages, of |weights - weights of one replica| /
|weights of one replica|, in Euclidean norms. "Reordered" is one replica with the batch in another
order: it sums the same, so that what comes of it is rounding alone.
"""

import argparse
import dataclasses
import functools
import itertools
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tf_simclr.config import Model  # noqa: E402
from tf_simclr.devices import workers  # noqa: E402
from tf_simclr.models.simclr import SimCLR  # noqa: E402
from tf_simclr.optim import policy  # noqa: E402
from tf_simclr.training import steps  # noqa: E402

NUM_STEPS = 5
NUM_CLASSES = 5
REPLICAS = (1, 2, 4)
BATCH_SIZE, IMAGE_SIZE, WIDTH_MULTIPLIER = 32, 32, 0.25
LEARNING_RATE = 0.005  # as in the first steps of the published runs' warm-up
WEIGHT_DECAY = 1e-4
MODELS = {  # row -> (train_mode, settings of Model)
    "pretraining, ResNet-18": ("pretrain", dict(resnet_depth=18)),
    "fine-tuning, ResNet-18": ("finetune", dict(resnet_depth=18)),
    "pretraining, ResNet-50 SK": ("pretrain", dict(resnet_depth=50, sk_ratio=0.0625)),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """What a training came to; variables go by their paths."""

    losses: tuple[float, float]  # of the whole batch, before the first and after the last step
    gradients: dict[str, np.ndarray]  # before the first step
    weights: dict[str, np.ndarray]  # after the last step, moving averages included


def set_dtype(dtype: str):
    """Lets models built from now on, and the batches, be of "float32" or "float64"."""
    keras.backend.set_floatx(dtype)
    keras.mixed_precision.set_global_policy(dtype)  # Keras 3 reads floatx only once


def make_batch(batch_size: int, image_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cloudy, noisy views (n, 2, s, s, 3) in [0, 1] and one-hot labels (n, NUM_CLASSES)."""
    rng = np.random.default_rng(0)
    clouds = rng.normal(size=(batch_size, image_size // 4, image_size // 4, 6))
    clouds = tf.image.resize(clouds, (image_size, image_size), "bicubic").numpy()
    images = np.clip(0.5 + 0.25 * clouds + 0.15 * rng.normal(size=clouds.shape), 0, 1)
    images = np.stack(np.split(images, 2, axis=-1), axis=1)
    labels = np.eye(NUM_CLASSES)[rng.integers(NUM_CLASSES, size=batch_size)]
    return images.astype(keras.backend.floatx()), labels.astype(keras.backend.floatx())


def set_weights(model: SimCLR):
    """Gives each variable random values that depend on its path alone, and none of them zero.

    Gammas that close a block are small, as in training, where they begin with 0.
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


def train(strategy, make_model, batch, *, train_mode: str, learning_rate: float) -> Run:
    """Takes NUM_STEPS LARS steps from `set_weights` on one batch.

    Args:
      strategy: whose replicas share the batch, in order.
      make_model: function without arguments, called in the strategy's scope.
      batch: of `make_batch`; fine-tuning takes the first view.
      train_mode: "pretrain" (with linear evaluation) or "finetune".
      learning_rate: constant.
    """
    with strategy.scope():
        model = make_model()
        optimizer = policy.make_optimizer(
            model, "lars", learning_rate, momentum=0.9, weight_decay=WEIGHT_DECAY
        )
    trainable = policy.trainable_variables(model)
    variables = model.variables_by_path()
    path_of = {id(variable): path for path, variable in variables.items()}
    decay = dict(decayed=policy.loss_decay_variables(model, "lars"), weight_decay=WEIGHT_DECAY)

    def loss(images, labels):
        targets = steps.Targets.of(labels)
        if train_mode == "finetune":
            return steps.finetune_loss(model, images[:, 0], targets, **decay)
        outputs = steps.pretrain_outputs(model, tf.unstack(images, axis=1))
        return steps.pretrain_loss(outputs, targets, temperature=0.5, hidden_norm=True, **decay)

    def differentiate(images, labels):
        return functools.partial(steps.gradients, functools.partial(loss, images, labels))

    def measure(images, labels):
        metrics, gradients = steps.summed_gradients(differentiate(images, labels), trainable)
        return metrics["total_loss"], {path_of[id(v)]: gradient for gradient, v in gradients}

    def step(images, labels):
        steps.train_step(differentiate(images, labels), optimizer, trainable)

    batch = tuple(
        strategy.experimental_distribute_values_from_function(
            lambda context, parts=parts: tf.constant(parts[context.replica_id_in_sync_group])
        )
        for parts in (np.split(array, strategy.num_replicas_in_sync) for array in batch)
    )
    # Not in a tf.function: tracing a model for each of several replicas takes minutes.
    set_weights(model)
    first_loss, gradients = strategy.run(measure, args=batch)
    set_weights(model)  # measuring has moved the moving averages
    for _ in range(NUM_STEPS):
        strategy.run(step, args=batch)
    workers.average_over_replicas(strategy, model.per_replica_statistics())  # as a checkpoint does
    weights = {path: np.array(tf.convert_to_tensor(v)) for path, v in variables.items()}
    last_loss, _ = strategy.run(measure, args=batch)
    local = strategy.experimental_local_results
    losses = np.mean(local(first_loss)), np.mean(local(last_loss))
    return Run(losses, {path: local(g)[0].numpy() for path, g in gradients.items()}, weights)


def difference(weights: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """Largest relative difference over the variables, in Euclidean norms."""
    norms = {p: (np.linalg.norm(weights[p] - v), np.linalg.norm(v)) for p, v in expected.items()}
    return float(np.max([apart and apart / norm for apart, norm in norms.values()]))  # 0 / 0: 0


def row(name: str, dtype: str, strategies: dict) -> tuple[list[str], dict[str, np.ndarray]]:
    """Cells of a row of the table, and the weights of one replica."""
    set_dtype(dtype)
    train_mode, settings = MODELS[name]
    make_model = functools.partial(
        SimCLR,
        NUM_CLASSES,
        image_size=IMAGE_SIZE,
        network=Model(width_multiplier=WIDTH_MULTIPLIER, **settings),
        stop_supervised_gradient=train_mode == "pretrain",
    )
    how = dict(train_mode=train_mode, learning_rate=LEARNING_RATE)
    batch = make_batch(BATCH_SIZE, IMAGE_SIZE)
    runs = [train(strategies[number], make_model, batch, **how) for number in REPLICAS]
    reordered = train(strategies[1], make_model, [array[::-1] for array in batch], **how)
    cells = [" / ".join(f"{run.losses[i]:.7g}" for run in runs) for i in (0, 1)]
    cells += [f"{difference(run.weights, runs[0].weights):.0e}" for run in (reordered, *runs[1:])]
    return [name, dtype, *cells], runs[0].weights


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--save", help="file (npz) to write the weights of one replica to")
    parser.add_argument("--against", help="file so written, to compare with")
    args = parser.parse_args(argv)
    parts = [tf.config.LogicalDeviceConfiguration()] * max(REPLICAS)
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    # The default's collectives clash with those of another strategy in the process.
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
    saved = {}
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


if __name__ == "__main__":
    main()
