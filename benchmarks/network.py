"""Computes the size of a SimCLR model by formula, because the largest take gigabytes to build."""

import dataclasses
import math
from typing import Any

from tf_simclr.models.resnet import BLOCKS_PER_GROUP, BOTTLENECK_DEPTHS


@dataclasses.dataclass
class Network:
    """Holds the sizes of a model that decide how much its replicas compute, keep and exchange.

    Attributes:
      variables: number of elements of each trainable variable.
      bn_channels: channels of each batch normalization.
      products: multiply-adds of each convolution and dense layer, forward, for one view.
      kept: numbers that the forward pass keeps for the backward pass, for one view: the inputs of
        convolutions, pooling and batch normalizations, each once.
    """

    variables: list[int] = dataclasses.field(default_factory=list)
    bn_channels: list[int] = dataclasses.field(default_factory=list)
    products: list[int] = dataclasses.field(default_factory=list)
    kept: int = 0

    @property
    def parameters(self) -> int:
        """Returns the number of trainable parameters."""
        return sum(self.variables)

    def conv_bn(
        self,
        kernel_size: int,
        inputs: int,
        outputs: int,
        *,
        side: int = 1,
        center: bool = True,
        relu: bool = True,
    ) -> None:
        """Adds a convolution without bias (kernel_size 1: or a dense layer) and its BN.

        Args:
          kernel_size: side of the kernel.
          inputs: channels of the input.
          outputs: channels of the output.
          side: height and width of the output.
          center: whether the batch normalization has a beta.
          relu: whether a ReLU follows, whose output the next layer keeps.
        """
        self.variables.append(kernel_size**2 * inputs * outputs)
        self.variables += [outputs] * (1 + center)
        self.bn_channels.append(outputs)
        self.products.append(kernel_size**2 * inputs * outputs * side**2)
        self.kept += (1 + relu) * outputs * side**2


def encoder(
    *,
    resnet_depth: int,
    width_multiplier: float = 1.0,
    sk_ratio: float = 0.0,
    small_stem: bool = False,
    image_size: int = 224,
) -> tuple[Network, int]:
    """Computes the sizes of the ResNet in tf_simclr/models/resnet.py, and the output width.

    Squeeze-and-excitation is not counted.
    """
    network = Network()
    network.kept += 3 * image_size**2
    channels, side = _stem(network, image_size, int(64 * width_multiplier), sk_ratio, small_stem)
    for group, blocks in enumerate(BLOCKS_PER_GROUP[resnet_depth]):
        filters = int(64 * 2**group * width_multiplier)
        outputs = 4 * filters if resnet_depth in BOTTLENECK_DEPTHS else filters
        for block in range(blocks):
            before = side
            if block == 0:
                side = math.ceil(side / 2) if group else side
                # The shortcut's projection. With sk it follows average pooling.
                network.conv_bn(1, channels, outputs, side=side, relu=False)
                network.kept += channels * side**2 if sk_ratio > 0 else 0
            if resnet_depth not in BOTTLENECK_DEPTHS:
                network.conv_bn(3, channels, filters, side=side)
            else:
                network.conv_bn(1, channels, filters, side=before)
                _middle(network, filters, sk_ratio, side)
            last_kernel = 1 if resnet_depth in BOTTLENECK_DEPTHS else 3
            network.conv_bn(last_kernel, filters, outputs, side=side)  # a ReLU follows the sum
            channels = outputs
    return network, channels


def _stem(
    network: Network, image_size: int, width: int, sk_ratio: float, small_stem: bool
) -> tuple[int, int]:
    """Adds the layers before the first group; returns the channels and the side of the output."""
    if small_stem:
        network.conv_bn(3, 3, width, side=image_size)
        return width, image_size
    side = math.ceil(image_size / 2)
    if sk_ratio > 0:
        network.conv_bn(3, 3, width // 2, side=side)
        network.conv_bn(3, width // 2, width // 2, side=side)
        network.conv_bn(3, width // 2, width, side=side)
    else:
        network.conv_bn(7, 3, width, side=side)
    pooled = math.ceil(side / 2)
    network.kept += width * pooled**2
    return width, pooled


def _middle(network: Network, filters: int, sk_ratio: float, side: int) -> None:
    """Adds the 3x3 convolution of a bottleneck, or its selective kernels."""
    if not sk_ratio > 0:
        network.conv_bn(3, filters, filters, side=side)
        return
    reduced = max(int(filters * sk_ratio), 32)
    network.conv_bn(3, filters, 2 * filters, side=side)
    network.conv_bn(1, filters, reduced)
    network.variables.append(reduced * 2 * filters)
    network.products.append(reduced * 2 * filters)
    network.kept += filters * side**2  # the weighted sum of both kernels


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
    network.conv_bn(1, features, proj_out_dim, center=False, relu=False)
    network.variables += [features * num_classes, num_classes]
    network.products.append(features * num_classes)
    return network


def step_products(model: Network) -> int:
    """Counts the multiply-adds of `simclr` for one view in a training step.

    The backward pass computes two products for each: the gradients of the input and of the weights.
    Nothing needs the gradient of the images, and the supervised head stops the gradient of its
    input.
    """
    return 3 * sum(model.products) - model.products[0] - model.products[-1]
