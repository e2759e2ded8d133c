"""Rejects networks and images that no device could hold."""

from decimal import Decimal
from typing import Any

from tf_simclr.config import Config
from tf_simclr.errors import ConfigError
from tf_simclr.models import size
from tf_simclr.models.simclr import SMALL_STEM_MAX_IMAGE_SIZE

# The bound of the weights, and of one activation of one image. No device could train more, because
# training needs several times as much memory.
MAX_TIB = 1


def check_size(config: Config) -> None:
    """Raises ConfigError if no device could hold the network, or one activation of one image.

    It needs only the settings, so it runs before anything else.
    """
    model, image_size = config.model, config.data.image_size
    backbone: dict[str, Any] = dict(
        depth=model.resnet_depth,
        width_multiplier=model.width_multiplier,
        small_stem=image_size <= SMALL_STEM_MAX_IMAGE_SIZE,
    )
    number = size.backbone_parameters(
        **backbone,
        sk_ratio=model.sk_ratio,
        se_ratio=model.se_ratio,
        first_shortcut=model.first_shortcut,
    )
    if _tib(number) > MAX_TIB:
        raise ConfigError(
            f"width_multiplier {model.width_multiplier:g} makes a network of {Decimal(number):.2g} "
            f"parameters ({_tib(number):.2g} TiB); the bound is {MAX_TIB} TiB: give a smaller one"
        )
    features = size.feature_channels(model.resnet_depth, model.width_multiplier)
    number = size.projection_parameters(
        features,
        mode=model.proj_head_mode,
        num_layers=model.num_proj_layers,
        out_dim=model.proj_out_dim,
    )
    if _tib(number) > MAX_TIB:
        raise ConfigError(
            f"proj_out_dim {model.proj_out_dim} and num_proj_layers {model.num_proj_layers} make a "
            f"projection head of {Decimal(number):.2g} parameters ({_tib(number):.2g} TiB); the "
            f"bound is {MAX_TIB} TiB: give smaller ones"
        )
    item_bytes = 4 if config.training.precision == "float32" else 2
    elements = size.first_group_elements(image_size=image_size, **backbone)
    if _tib(elements, item_bytes) > MAX_TIB:
        raise ConfigError(
            f"image_size {image_size} makes activations of {_tib(elements, item_bytes):.2g} TiB "
            f"for one image in the first block group alone; the bound is {MAX_TIB} TiB: give a "
            "smaller one"
        )


def _tib(number: int, item_bytes: int = 4) -> Decimal:
    """Returns the size of this many elements in TiB; Decimal, because a float would overflow."""
    return Decimal(number * item_bytes) / 2**40
