"""SimCLR: encoder, projection head and supervised head, with every output by name."""

from collections.abc import Iterator

import keras
import tensorflow as tf

from tf_simclr.models import heads, resnet
from tf_simclr.models.layers import BatchNormSettings
from tf_simclr.precision import at_least_float32

SMALL_STEM_MAX_IMAGE_SIZE = 32
VARIABLE_NAMES = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")


@keras.utils.register_keras_serializable("tf_simclr")
class SimCLR(keras.Model):
    """The whole model, from images to the endpoints of the official code.

    Attributes:
      stages: the encoder's five parts: stem, block_group1 .. block_group4.
      projection_layers: the projection head's layers, layer1 .. layerN.
      supervised_head: linear classifier, or None.
      fine_tune_after_block: the parts up to this block group are frozen (0: the stem, 4: the whole
        encoder); -1: nothing is.
    """

    def __init__(
        self,
        *,
        num_classes: int | None,
        image_size: int = 224,
        resnet_depth: int = 50,
        width_multiplier: float = 1.0,
        sk_ratio: float = 0.0,
        se_ratio: float = 0.0,
        batch_norm_decay: float = 0.9,
        global_bn: bool = True,
        fused_batch_norm: bool = False,
        proj_head_mode: str = "nonlinear",
        proj_out_dim: int = 128,
        num_proj_layers: int = 3,
        ft_proj_selector: int = 0,
        fine_tune_after_block: int = -1,
        frozen_batch_norm: str = "inference",
        stop_supervised_gradient: bool = False,
        precision: str | None = None,
        **kwargs,
    ):
        """Builds all variables.

        Args:
          num_classes: width of the supervised head; None for a model without one.
          image_size: up to 32 selects the small stem. Images of any size can be fed all the same.
          ft_proj_selector: which hidden of the projection head feeds the supervised head.
          frozen_batch_norm: "inference" (paper and TF1 code): frozen parts normalise by their
            moving averages and leave them alone. "training" (official TF2 code): by the batch.
          stop_supervised_gradient: True in pretraining, where the supervised head only watches.
          precision: type in which the encoder computes, "float32", "bfloat16" or "float16"; None
            for Keras's own. Variables, statistics, heads and endpoints are float32 all the same.
          The others: the flag of the same name.
        """
        super().__init__(**kwargs)
        self._config = dict(
            num_classes=num_classes,
            image_size=image_size,
            resnet_depth=resnet_depth,
            width_multiplier=width_multiplier,
            sk_ratio=sk_ratio,
            se_ratio=se_ratio,
            batch_norm_decay=batch_norm_decay,
            global_bn=global_bn,
            fused_batch_norm=fused_batch_norm,
            proj_head_mode=proj_head_mode,
            proj_out_dim=proj_out_dim,
            num_proj_layers=num_proj_layers,
            ft_proj_selector=ft_proj_selector,
            fine_tune_after_block=fine_tune_after_block,
            frozen_batch_norm=frozen_batch_norm,
            stop_supervised_gradient=stop_supervised_gradient,
            precision=precision,
        )
        bn = BatchNormSettings(
            momentum=batch_norm_decay, synchronized=global_bn, fused=fused_batch_norm
        )
        self.stages = resnet.stages(
            depth=resnet_depth,
            width_multiplier=width_multiplier,
            small_stem=image_size <= SMALL_STEM_MAX_IMAGE_SIZE,
            sk_ratio=sk_ratio,
            se_ratio=se_ratio,
            bn=bn,
            dtype=precision,
        )
        features = self.stages[-1].output_shape[-1]
        self.projection_layers = heads.projection_layers(
            features,
            mode=proj_head_mode,
            num_layers=num_proj_layers,
            out_dim=proj_out_dim,
            bn=bn,
        )
        self.supervised_head = None
        if num_classes is not None:
            widths = [features] + [layer.output_shape[-1] for layer in self.projection_layers]
            self.supervised_head = heads.supervised_head(widths[ft_proj_selector], num_classes)
        self.ft_proj_selector = ft_proj_selector
        self.fine_tune_after_block = fine_tune_after_block
        self.frozen_batch_norm = frozen_batch_norm
        self.stop_supervised_gradient = stop_supervised_gradient
        self.built = True

    def call(self, images, training: bool = False) -> dict[str, tf.Tensor]:
        """Endpoints of images (b, h, w, 3): float32 in [0, 1].

        Returns: all of them float32, whatever the precision,
          initial_conv, initial_max_pool, block_group1 .. block_group4 (b, h', w', c);
          final_avg_pool, proj_head_input (b, features); proj_head_output (b, proj_out_dim);
          logits_sup (b, num_classes) where there is a supervised head.
        """
        endpoints = {}
        x = tf.cast(images, self.stages[0].inputs[0].dtype)
        for i, stage in enumerate(self.stages):
            by_batch = training and not (
                i <= self.fine_tune_after_block and self.frozen_batch_norm == "inference"
            )
            x = stage(x, training=by_batch)
            if i == 0:
                initial_conv, x = x
                endpoints["initial_conv"] = at_least_float32(initial_conv)
            name = "initial_max_pool" if i == 0 else f"block_group{i}"
            endpoints[name] = at_least_float32(x)
        pooled = tf.reduce_mean(endpoints[name], axis=[1, 2])
        endpoints["final_avg_pool"] = pooled
        endpoints["proj_head_input"] = pooled
        hiddens = [pooled]
        for layer in self.projection_layers:
            hiddens.append(layer(hiddens[-1], training=training))
        endpoints["proj_head_output"] = hiddens[-1]
        if self.supervised_head is not None:
            selected = hiddens[self.ft_proj_selector]
            if self.stop_supervised_gradient:
                selected = tf.stop_gradient(selected)
            endpoints["logits_sup"] = self.supervised_head(selected, training=training)
        return endpoints

    def named_layers(self) -> Iterator[tuple[str, keras.layers.Layer]]:
        """All layers that own variables, with a path that no Keras version changes.

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
        """{path: variable} of all variables, e.g. base_model/stem/conv/bn/moving_mean."""
        found = {}
        for path, layer in self.named_layers():
            own = {n: v for n in VARIABLE_NAMES if (v := getattr(layer, n, None)) is not None}
            assert len(own) == len(layer.weights), f"{path} has variables of unknown names"
            found |= {f"{path}/{name}": variable for name, variable in own.items()}
        return found

    def output_widths(self) -> dict[str, int]:
        """Widths of the endpoints that losses take: proj_head_output, and logits_sup if any."""
        last = self.projection_layers[-1] if self.projection_layers else self.stages[-1]
        widths = {"proj_head_output": last.output_shape[-1]}
        if self.supervised_head is not None:
            widths["logits_sup"] = self.supervised_head.output_shape[-1]
        return widths

    def moving_averages(self) -> list:
        """The moving averages of all batch normalisations."""
        return [
            variable
            for layer in self._batch_norms()
            for variable in (layer.moving_mean, layer.moving_variance)
        ]

    def own_statistics(self) -> list:
        """The moving averages of which each replica has its own: those of global_bn=False."""
        return [
            variable
            for layer in self._batch_norms()
            if not layer.synchronized
            for variable in (layer.moving_mean, layer.moving_variance)
        ]

    def _batch_norms(self) -> Iterator[keras.layers.BatchNormalization]:
        layers = (layer for _, layer in self.named_layers())
        return (layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization))

    def get_config(self):
        return super().get_config() | self._config
