"""SimCLR: the backbone, the projection head and the supervised head, with named endpoints."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tf_simclr.config import Model
from tf_simclr.models import heads, resnet
from tf_simclr.models.layers import BatchNormSettings
from tf_simclr.precision import at_least_float32

SMALL_STEM_MAX_IMAGE_SIZE = 32
VARIABLE_NAMES = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
# The settings of `Model` that do not change the network, only how a run uses it.
_RUN_SETTINGS = ("lineareval_while_pretraining", "zero_init_logits_layer")
_NETWORK_SETTINGS = tuple(
    field.name for field in dataclasses.fields(Model) if field.name not in _RUN_SETTINGS
)


@keras.utils.register_keras_serializable("tf_simclr")
class SimCLR(keras.Model):
    """The whole model, from images to the endpoints of the official code.

    Example:
      >>> import tensorflow as tf
      >>> from tf_simclr import Config, SimCLR
      >>> network = Config().replace(resnet_depth=18, width_multiplier=0.125).model
      >>> model = SimCLR(image_size=32, network=network)
      >>> endpoints = model(tf.zeros((4, 32, 32, 3)))
      >>> endpoints["final_avg_pool"].shape, endpoints["proj_head_output"].shape
      (TensorShape([4, 64]), TensorShape([4, 128]))

    Attributes:
      network: the `Model` section of the settings.
      stages: the five parts of the backbone: stem, block_group1 .. block_group4.
      projection_layers: the layers of the projection head, layer1 .. layerN.
      supervised_head: the linear classifier, or None.
      fine_tune_after_block: the stages up to this block group are frozen (0: the stem, 4: the whole
        backbone); -1: no stage is frozen.
      frozen_batch_norm: whether frozen stages normalize by their moving averages ("inference") or
        by the batch ("training").
    """

    def __init__(
        self,
        num_classes: int | None = None,
        *,
        image_size: int = 224,
        network: Model | None = None,
        stop_supervised_gradient: bool = False,
        precision: str | None = None,
        **kwargs: Any,
    ):
        """Builds the model and all its variables.

        Args:
          num_classes: width of the supervised head; None for a model without one.
          image_size: side of the training images in pixels; 32 or less selects the small stem. The
            model accepts images of any size.
          network: the section `Model` of a `Config`; None for its defaults, a ResNet-50. The model
            ignores lineareval_while_pretraining and zero_init_logits_layer, which only change how a
            run uses it.
          stop_supervised_gradient: True in pretraining, to keep the labels away from the backbone.
          precision: compute type of the backbone, "float32", "bfloat16" or "float16"; None for the
            Keras default. Variables, statistics, heads and endpoints are always float32.
          **kwargs: arguments of keras.Model, such as name.

        Raises:
          ValueError: the depth or the head is unknown, or a layer has no channels.
        """
        super().__init__(**kwargs)
        network = network or Model()
        self.network = network
        self.num_classes, self.image_size, self.precision = num_classes, image_size, precision
        self.stop_supervised_gradient = stop_supervised_gradient
        self.fine_tune_after_block = network.fine_tune_after_block
        self.frozen_batch_norm = network.frozen_batch_norm
        bn = BatchNormSettings(
            momentum=network.batch_norm_decay,
            synchronized=network.global_bn,
            fused=network.fused_batch_norm,
        )
        self.stages = resnet.stages(
            depth=network.resnet_depth,
            width_multiplier=network.width_multiplier,
            small_stem=image_size <= SMALL_STEM_MAX_IMAGE_SIZE,
            sk_ratio=network.sk_ratio,
            se_ratio=network.se_ratio,
            variant=resnet.Variant(
                max_pool_padding=network.max_pool_padding,
                input_normalization=network.input_normalization,
                first_shortcut=network.first_shortcut,
            ),
            bn=bn,
            dtype=precision,
        )
        features = self.stages[-1].output_shape[-1]
        self.projection_layers = heads.projection_layers(
            features,
            mode=network.proj_head_mode,
            num_layers=network.num_proj_layers,
            out_dim=network.proj_out_dim,
            bn=bn,
        )
        self.supervised_head = None
        if num_classes is not None:
            widths = [features] + [layer.output_shape[-1] for layer in self.projection_layers]
            width = widths[network.ft_proj_selector]
            self.supervised_head = heads.supervised_head(width, num_classes)
        self.built = True

    def call(self, images: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
        """Computes the endpoints of images (n, h, w, 3), float32 in [0, 1].

        Returns:
          Endpoints by name, all of them float32 in any precision:
            initial_conv, initial_max_pool, block_group1 .. block_group4: (n, h', w', c);
            final_avg_pool, proj_head_input: (n, features);
            proj_head_output: (n, d);
            logits_sup: (n, num_classes), only with a supervised head.
        """
        endpoints = self.backbone_endpoints(images, training=training)
        return endpoints | self.head_endpoints(endpoints["final_avg_pool"], training=training)

    def backbone_endpoints(self, images: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
        """Computes the endpoints of `call` up to final_avg_pool, without the heads."""
        endpoints = {}
        x = tf.cast(images, self.stages[0].inputs[0].dtype)
        for i, stage in enumerate(self.stages):
            frozen = i <= self.fine_tune_after_block
            by_moving_averages = frozen and self.frozen_batch_norm == "inference"
            x = stage(x, training=training and not by_moving_averages)
            if i == 0:
                initial_conv, x = x
                endpoints["initial_conv"] = at_least_float32(initial_conv)
            name = "initial_max_pool" if i == 0 else f"block_group{i}"
            endpoints[name] = at_least_float32(x)
        endpoints["final_avg_pool"] = tf.reduce_mean(endpoints[name], axis=[1, 2])
        return endpoints

    def head_endpoints(self, features: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
        """Computes the endpoints of `call` from final_avg_pool, (n, features), on."""
        endpoints = {"proj_head_input": features}
        hiddens = [features]
        for layer in self.projection_layers:
            hiddens.append(layer(hiddens[-1], training=training))
        endpoints["proj_head_output"] = hiddens[-1]
        if self.supervised_head is not None:
            selected = hiddens[self.network.ft_proj_selector]
            if self.stop_supervised_gradient:
                selected = tf.stop_gradient(selected)
            endpoints["logits_sup"] = self.supervised_head(selected, training=training)
        return endpoints

    def named_layers(self) -> Iterator[tuple[str, keras.layers.Layer]]:
        """Yields (path, layer) of all layers with variables. The paths do not depend on Keras.

        Paths begin with base_model, head_contrastive or head_supervised, as in the checkpoints of
        the SimCLR papers, e.g. base_model/block_group1/block2/conv1.
        """
        parts = [(f"base_model/{stage.name}", stage) for stage in self.stages]
        parts += [(f"head_contrastive/{layer.name}", layer) for layer in self.projection_layers]
        if self.supervised_head is not None:
            parts.append(("head_supervised", self.supervised_head))
        for prefix, part in parts:
            for layer in part.layers:
                if layer.weights:
                    yield f"{prefix}/{layer.name.replace('.', '/')}", layer

    def variables_by_path(self) -> dict[str, tf.Variable]:
        """Returns {path: variable} of all variables, e.g. base_model/stem/conv/bn/moving_mean."""
        variables: dict[str, tf.Variable] = {}
        for path, layer in self.named_layers():
            attributes = {name: getattr(layer, name, None) for name in VARIABLE_NAMES}
            named = {name: value for name, value in attributes.items() if value is not None}
            assert len(named) == len(layer.weights), f"{path} has variables of unknown names"
            variables |= {f"{path}/{name}": variable for name, variable in named.items()}
        return variables

    def output_widths(self) -> dict[str, int]:
        """Returns the widths of the endpoints that losses use: proj_head_output and logits_sup."""
        last = self.projection_layers[-1] if self.projection_layers else self.stages[-1]
        widths = {"proj_head_output": last.output_shape[-1]}
        if self.supervised_head is not None:
            widths["logits_sup"] = self.supervised_head.output_shape[-1]
        return widths

    def moving_averages(self) -> list[tf.Variable]:
        """Returns the moving averages of all batch normalizations."""
        return _moving_averages(self._batch_norms())

    def per_replica_statistics(self) -> list[tf.Variable]:
        """Returns the moving averages that differ between replicas: all without global_bn."""
        return _moving_averages(layer for layer in self._batch_norms() if not layer.synchronized)

    def _batch_norms(self) -> Iterator[keras.layers.BatchNormalization]:
        layers = (layer for _, layer in self.named_layers())
        return (layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of `from_config`, with each setting of the network as one entry."""
        network = {name: getattr(self.network, name) for name in _NETWORK_SETTINGS}
        arguments = {
            "num_classes": self.num_classes,
            "image_size": self.image_size,
            "stop_supervised_gradient": self.stop_supervised_gradient,
            "precision": self.precision,
        }
        return super().get_config() | network | arguments

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict | None = None) -> "SimCLR":
        """Makes an untrained model from the result of `get_config`."""
        network = {name: value for name, value in config.items() if name in _NETWORK_SETTINGS}
        arguments = {name: value for name, value in config.items() if name not in network}
        return cls(network=Model(**network), **arguments)


def _moving_averages(batch_norms) -> list[tf.Variable]:
    return [
        variable for layer in batch_norms for variable in (layer.moving_mean, layer.moving_variance)
    ]
