"""Pretrains SimCLR with Keras's model.fit, on images that are drawn here.

python examples/keras_fit.py --steps=300
"""

import argparse

import keras
import numpy as np
import tensorflow as tf

import tf_simclr
from tf_simclr.data.sources import shapes


class Pretraining(keras.Model):
    """Trains an encoder so that two views of an image have similar projections."""

    def __init__(self, encoder: tf_simclr.SimCLR):
        super().__init__()
        self.encoder = encoder

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Computes features: images (n, h, w, 3) in [0, 1] -> (n, width)."""
        return self.encoder(images, training=training)["final_avg_pool"]

    def train_step(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Takes one step on images (n, h, w, 3)."""
        views = tf_simclr.augmentation(images, color_jitter_strength=0.5, use_blur=False)
        with tf.GradientTape() as tape:
            # One pass over both views: batch normalization sees them together.
            projections = self.encoder(tf.concat(views, axis=0), training=True)["proj_head_output"]
            metrics = tf_simclr.nt_xent(*tf.split(projections, 2), temperature=0.2)
        variables = self.encoder.trainable_variables
        gradients = tape.gradient(metrics["contrast_loss"], variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return metrics


def main(argv: list[str] | None = None) -> keras.callbacks.History:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--width_multiplier", type=float, default=0.25)
    args = parser.parse_args(argv)

    # 1. Data: uint8 (n, 32, 32, 3). Any batches of one static shape work.
    images = np.stack([shapes.example("train", i)[0] for i in range(8 * args.batch_size)])
    dataset = tf.data.Dataset.from_tensor_slices(images).shuffle(len(images)).repeat()
    dataset = dataset.batch(args.batch_size, drop_remainder=True)

    # 2. Model: a ResNet-18 without a classifier.
    settings = tf_simclr.Config().replace(resnet_depth=18, width_multiplier=args.width_multiplier)
    model = Pretraining(tf_simclr.SimCLR(image_size=32, network=settings.model))

    # 3. Optimizer: LARS excludes biases and batch normalization, the variables of rank 1.
    rank_1 = [i for i, v in enumerate(model.encoder.trainable_variables) if len(v.shape) == 1]
    schedule = tf_simclr.WarmUpAndCosineDecay(
        1.0 * args.batch_size / 256, warmup_steps=args.steps // 10, total_steps=args.steps
    )
    optimizer = tf_simclr.LARS(
        schedule,
        weight_decay=1e-4,
        exclude_from_weight_decay=rank_1,
        exclude_from_layer_adaptation=rank_1,
    )

    # 4. Training.
    model.compile(optimizer=optimizer, jit_compile=False)
    steps_per_epoch = max(1, min(args.steps, 50))
    return model.fit(
        dataset, epochs=-(-args.steps // steps_per_epoch), steps_per_epoch=steps_per_epoch
    )


if __name__ == "__main__":
    main()
