"""The computed size of a network against networks that are built."""

import math

import pytest

import small
from tf_simclr.models import resnet, size


@pytest.mark.parametrize("depth, width, sk_ratio, millions", small.PUBLISHED_SIZES)
def test_published_networks(depth, width, sk_ratio, millions):
    """Table 1 of SimCLRv2."""
    number = size.backbone_parameters(
        depth=depth, width_multiplier=width, small_stem=False, sk_ratio=sk_ratio, se_ratio=0.0
    )
    assert number / 1e6 == pytest.approx(millions, abs=0.6)


@pytest.mark.parametrize(
    "settings, head",
    [
        (dict(resnet_depth=18, se_ratio=0.25), dict(proj_head_mode="linear")),
        (dict(resnet_depth=50, sk_ratio=0.5), dict(proj_head_mode="none")),
        (
            dict(resnet_depth=50, sk_ratio=0.0625, se_ratio=0.25, image_size=64),
            dict(num_proj_layers=2, proj_out_dim=5),
        ),
    ],
    ids=str,
)
def test_parameters_and_activations_of_a_network_that_is_built(
    short_model, monkeypatch, settings, head
):
    model = short_model(width_multiplier=0.25, num_classes=None, **settings, **head)
    for depth in (18, 50):
        monkeypatch.setitem(resnet.BLOCKS_PER_GROUP, depth, (1, 1, 1, 1))
    depth, image_size = settings["resnet_depth"], settings.get("image_size", 32)
    same = dict(depth=depth, width_multiplier=0.25, small_stem=image_size == 32)
    backbone, projection = (
        sum(math.prod(v.shape) for part in parts for v in part.trainable_variables)
        for parts in (model.stages, model.projection_layers)
    )
    assert backbone == size.backbone_parameters(
        **same, sk_ratio=settings.get("sk_ratio", 0.0), se_ratio=settings.get("se_ratio", 0.0)
    )
    features = size.feature_channels(depth, 0.25)
    assert projection == size.projection_parameters(
        features,
        mode=head.get("proj_head_mode", "nonlinear"),
        num_layers=head.get("num_proj_layers", 3),
        out_dim=head.get("proj_out_dim", 8),
    )
    side = image_size + 1  # not a multiple of the strides
    _, pooled = model.stages[0].compute_output_shape((1, side, side, 3))
    shape = model.stages[1].compute_output_shape(pooled)
    assert math.prod(shape) == size.first_group_elements(image_size=side, **same)
