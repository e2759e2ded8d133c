"""Pretrains SimCLR in a custom training loop: one page to copy and change.

python examples/custom_loop.py --steps=300
"""

import argparse

import numpy as np
import tensorflow as tf

import tf_simclr
from tf_simclr import compat
from tf_simclr.data.sources import shapes


def main(argv: list[str] | None = None) -> list[float]:
    """Runs the command line, and returns the loss of every step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--width_multiplier", type=float, default=0.25)
    args = parser.parse_args(argv)

    # Data: images that are drawn here, uint8 (n, 32, 32, 3).
    images = np.stack([shapes.example("train", i)[0] for i in range(8 * args.batch_size)])
    dataset = tf.data.Dataset.from_tensor_slices(images).shuffle(len(images)).repeat()
    dataset = dataset.batch(args.batch_size, drop_remainder=True).take(args.steps)

    # Model: a ResNet-18 without a classifier.
    settings = tf_simclr.Config().replace(resnet_depth=18, width_multiplier=args.width_multiplier)
    model = tf_simclr.SimCLR(image_size=32, network=settings.model)
    variables = [compat.tf_variable(variable) for variable in model.trainable_variables]

    # Optimizer: LARS excludes biases and batch normalization, the variables of rank 1.
    rank_1 = [i for i, variable in enumerate(variables) if len(variable.shape) == 1]
    schedule = tf_simclr.WarmUpAndCosineDecay(
        1.0 * args.batch_size / 256, warmup_steps=args.steps // 10, total_steps=args.steps
    )
    optimizer = tf_simclr.LARS(
        schedule,
        weight_decay=1e-4,
        exclude_from_weight_decay=rank_1,
        exclude_from_layer_adaptation=rank_1,
    )
    optimizer.build(model.trainable_variables)

    @tf.function
    def train_step(images: tf.Tensor) -> tf.Tensor:
        views = tf_simclr.augmentation(images, color_jitter_strength=0.5, use_blur=False)
        with tf.GradientTape() as tape:
            # One pass over both views: batch normalization sees them together.
            endpoints = model(tf.concat(views, axis=0), training=True)  # (2n, 32, 32, 3)
            z1, z2 = tf.split(endpoints["proj_head_output"], 2)  # (n, 128) each
            loss = tf_simclr.nt_xent(z1, z2, temperature=0.2)["contrast_loss"]
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    losses = []
    for step, batch in enumerate(dataset, start=1):
        losses.append(float(train_step(batch)))
        if step % 20 == 0 or step == args.steps:
            print(f"step {step} of {args.steps}: loss {np.mean(losses[-20:]):.3f}")
    return losses


if __name__ == "__main__":
    main()
