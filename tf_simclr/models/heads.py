"""The heads on top of the backbone: projection (contrastive) and classification (supervised)."""

import keras

from tf_simclr.config.choices import PROJECTION_MODES
from tf_simclr.models import layers
from tf_simclr.models.layers import BatchNormSettings


def projection_layers(
    features: int,
    *,
    mode: str = "nonlinear",
    num_layers: int = 3,
    out_dim: int = 128,
    bn: BatchNormSettings,
) -> list[keras.Model]:
    """Makes the projection head g (SimCLR section 4.2; SimCLRv2 section 2 for three layers).

    Args:
      features: width of the backbone's output and of the middle layers.
      mode: "none" (no layers), "linear" (one dense layer, BN without beta) or "nonlinear"
        (num_layers dense layers without bias, each with BN and ReLU, but the last without beta and
        ReLU).
      num_layers: dense layers of the nonlinear head.
      out_dim: width of the output.
      bn: settings of every batch normalization.

    Returns:
      The layers in order, each a functional model (n, width) -> (n, width'). ft_proj_selector
      chooses among their outputs.

    Raises:
      ValueError: the mode is unknown.
    """
    if mode not in PROJECTION_MODES:
        raise ValueError(f"proj_head_mode must be one of {PROJECTION_MODES}, got {mode!r}")
    depth = {"none": 0, "linear": 1, "nonlinear": num_layers}[mode]
    parts = []
    for i in range(1, depth + 1):
        last = i == depth
        inputs = keras.Input((features,))
        x = _dense(inputs, "dense", out_dim if last else features, use_bias=False)
        x = layers.batch_norm(x, "dense", bn, relu=not last, center=not last)
        parts.append(keras.Model(inputs, x, name=f"layer{i}"))
    return parts


def supervised_head(features: int, num_classes: int) -> keras.Model:
    """Makes one dense layer with bias: (n, features) -> logits (n, num_classes)."""
    inputs = keras.Input((features,))
    logits = _dense(inputs, "dense", num_classes, use_bias=True)
    return keras.Model(inputs, logits, name="supervised_head")


def _dense(x, name: str, units: int, *, use_bias: bool):
    initializer = keras.initializers.RandomNormal(stddev=0.01)
    return keras.layers.Dense(units, use_bias=use_bias, kernel_initializer=initializer, name=name)(
        x
    )
