"""Computes the size of a SimCLR model by formula, because the largest take gigabytes to build."""

import dataclasses
from typing import Any

from tf_simclr.models.resnet import BLOCKS_PER_GROUP, BOTTLENECK_DEPTHS


@dataclasses.dataclass
class Network:
    """Holds the sizes of a model that decide how much its replicas exchange.

    Attributes:
      variables: number of elements of each trainable variable.
      bn_channels: channels of each batch normalization.
    """

    variables: list[int] = dataclasses.field(default_factory=list)
    bn_channels: list[int] = dataclasses.field(default_factory=list)

    @property
    def parameters(self) -> int:
        """Returns the number of trainable parameters."""
        return sum(self.variables)

    def conv_bn(self, kernel_size: int, inputs: int, outputs: int, *, center: bool = True) -> None:
        """Adds a convolution without bias (kernel_size 1: or a dense layer) and its BN."""
        self.variables.append(kernel_size**2 * inputs * outputs)
        self.variables += [outputs] * (1 + center)
        self.bn_channels.append(outputs)


def encoder(
    *,
    resnet_depth: int,
    width_multiplier: float = 1.0,
    sk_ratio: float = 0.0,
    small_stem: bool = False,
) -> tuple[Network, int]:
    """Computes the sizes of the ResNet in tf_simclr/models/resnet.py, and the output width.

    Squeeze-and-excitation is not counted.
    """
    network = Network()
    width = int(64 * width_multiplier)
    bottleneck, sk = resnet_depth in BOTTLENECK_DEPTHS, sk_ratio > 0
    if small_stem:
        network.conv_bn(3, 3, width)
    elif sk:
        network.conv_bn(3, 3, width // 2)
        network.conv_bn(3, width // 2, width // 2)
        network.conv_bn(3, width // 2, width)
    else:
        network.conv_bn(7, 3, width)
    channels = width
    for group, blocks in enumerate(BLOCKS_PER_GROUP[resnet_depth]):
        filters = int(64 * 2**group * width_multiplier)
        outputs = 4 * filters if bottleneck else filters
        for block in range(blocks):
            if block == 0:
                network.conv_bn(1, channels, outputs)  # the shortcut's projection
            if not bottleneck:
                network.conv_bn(3, channels, filters)
                network.conv_bn(3, filters, filters)
            else:
                network.conv_bn(1, channels, filters)
                if sk:
                    reduced = max(int(filters * sk_ratio), 32)
                    network.conv_bn(3, filters, 2 * filters)
                    network.conv_bn(1, filters, reduced)
                    network.variables.append(reduced * 2 * filters)
                else:
                    network.conv_bn(3, filters, filters)
                network.conv_bn(1, filters, outputs)
            channels = outputs
    return network, channels


def simclr(
    *, num_classes: int = 1000, proj_out_dim: int = 128, num_proj_layers: int = 3, **settings: Any
) -> Network:
    """Computes the sizes of the pretraining model: encoder, projection head, supervised head.

    Args:
      **settings: arguments of `encoder`.
    """
    network, features = encoder(**settings)
    for _ in range(num_proj_layers - 1):
        network.conv_bn(1, features, features)
    network.conv_bn(1, features, proj_out_dim, center=False)
    network.variables += [features * num_classes, num_classes]
    return network
