"""Builds a functional model of layers that every Keras has, with the weights of a SimCLR.

No code of this package is needed to load the model, so `keras_writer` writes it as a .keras file.
"""

from collections.abc import Callable
from typing import Any

import keras

from tf_simclr.models.batch_norm import BatchNorm
from tf_simclr.models.layers import ChannelGate, StreamMix, StreamSum
from tf_simclr.models.simclr import SimCLR

INPUT = "images"


def functional(model: SimCLR) -> keras.Model:
    """Builds a functional model that computes the endpoints of a SimCLR, in float32.

    The graph is copied layer by layer from the stages and heads. A layer with variables has the
    name of its path, with dots: base_model.block_group1.block1.conv1. Each endpoint is the output
    of a layer of that name. The weights are copies.

    In training each BatchNormalization uses the statistics of the batch, also in stages that
    fine_tune_after_block freezes, and the gradient of logits_sup reaches the backbone.

    Args:
      model: any SimCLR. A half-precision model gives a float32 one, because its variables are
        float32.

    Returns:
      A model from images, float32 (n, h, w, 3) in [0, 1] of any size, to a dict of the endpoints of
      `SimCLR.call`. It has no custom object.

    Raises:
      NotImplementedError: a layer has no counterpart in both versions of Keras.
    """
    endpoints: dict[str, Any] = {}
    images = keras.Input((None, None, 3), name=INPUT)
    x = images
    for i, stage in enumerate(model.stages):
        outputs = _copy_graph(stage, x, prefix=f"base_model.{stage.name}")
        x = outputs[-1]
        if i == 0:
            endpoints["initial_conv"] = outputs[0]
        endpoints["initial_max_pool" if i == 0 else f"block_group{i}"] = x
    pooled = keras.layers.GlobalAveragePooling2D(name="pool", dtype="float32")(x)
    endpoints["final_avg_pool"] = endpoints["proj_head_input"] = pooled
    hiddens = [pooled]
    for layer in model.projection_layers:
        hiddens += _copy_graph(layer, hiddens[-1], prefix=f"head_contrastive.{layer.name}")
    endpoints["proj_head_output"] = hiddens[-1]
    if model.supervised_head is not None:
        selected = hiddens[model.network.ft_proj_selector]
        (logits,) = _copy_graph(model.supervised_head, selected, prefix="head_supervised")
        endpoints["logits_sup"] = logits
    # Keras 2 names an output after its layer and Keras 3 after its key, so both are equal.
    named = {
        name: keras.layers.Identity(name=name, dtype="float32")(x) for name, x in endpoints.items()
    }
    copy = keras.Model(images, named, name="simclr")
    for path, layer in model.named_layers():
        copy.get_layer(path.replace("/", ".")).set_weights(layer.get_weights())
    return copy


def _copy_graph(part: keras.Model, inputs: Any, *, prefix: str) -> list[Any]:
    """Applies copies of a functional model's layers to Keras tensors, and returns its outputs."""
    copies = {id(part.inputs[0]): inputs}
    for layer in part.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        arguments = layer.input
        if isinstance(arguments, list):
            arguments = [copies[id(tensor)] for tensor in arguments]
        else:
            arguments = copies[id(arguments)]
        copy = _COPIES.get(type(layer), _copy_layer)
        copies[id(layer.output)] = copy(layer, arguments, f"{prefix}.{layer.name}")
    return [copies[id(tensor)] for tensor in part.outputs]


def _copy_layer(layer: keras.layers.Layer, inputs: Any, name: str) -> Any:
    if type(layer).__module__.partition(".")[0] != "keras":
        raise NotImplementedError(f"{type(layer).__name__} has no counterpart among Keras's layers")
    settings = layer.get_config() | {"name": name, "dtype": "float32"}
    return type(layer).from_config(settings)(inputs)


def _copy_batch_norm(layer: BatchNorm, inputs: Any, name: str) -> Any:
    return keras.layers.BatchNormalization(
        momentum=layer.momentum,
        epsilon=layer.epsilon,
        center=layer.center,
        scale=layer.scale,
        name=name,
        dtype="float32",
    )(inputs)


def _copy_gate(_: ChannelGate, inputs: list, name: str) -> Any:
    return keras.layers.Multiply(name=name, dtype="float32")(inputs)


def _copy_sum(_: StreamSum, streams: Any, name: str) -> Any:
    """Adds the two halves of the channels: (n, h, w, 2c) -> (n, h, w, c)."""
    half = streams.shape[-1] // 2
    halves = []
    for part, cropping in (("first", (0, half)), ("second", (half, 0))):
        # Seen with the channels first, the columns are our channels. No other stock layer slices
        # the last axis if the height and the width are unknown.
        crop = keras.layers.Cropping2D(
            ((0, 0), cropping),
            data_format="channels_first",
            name=f"{name}.{part}",
            dtype="float32",
        )
        halves.append(crop(streams))
    return keras.layers.Add(name=name, dtype="float32")(halves)


def _copy_mix(layer: StreamMix, inputs: list, name: str) -> Any:
    """Weighs [streams (n, h, w, 2c), logits (n, 1, 1, 2c)] by a softmax over the streams."""
    streams, logits = inputs
    half = streams.shape[-1] // 2
    layers = keras.layers
    x = layers.Reshape((2, half), name=f"{name}.logits", dtype="float32")(logits)
    x = layers.Softmax(axis=1, name=f"{name}.softmax", dtype="float32")(x)
    x = layers.Reshape((1, 1, 2 * half), name=f"{name}.weights", dtype="float32")(x)
    x = layers.Multiply(name=f"{name}.weighted", dtype="float32")([streams, x])
    return _copy_sum(layer, x, name)


_COPIES: dict[type, Callable[[Any, Any, str], Any]] = {
    BatchNorm: _copy_batch_norm,
    ChannelGate: _copy_gate,
    StreamSum: _copy_sum,
    StreamMix: _copy_mix,
}
