"""The ResNets: sizes, counts, and the layers of each block."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.models import resnet, size
from tf_simclr.models.layers import BatchNormSettings

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}


def stages(**settings):
    return resnet.stages(**({"bn": BatchNormSettings()} | settings))


def count(**settings) -> int:
    """Trainable parameters by the arithmetic of the papers, which test_size.py checks."""
    defaults = dict(width_multiplier=1.0, small_stem=False, sk_ratio=0.0, se_ratio=0.0)
    return size.backbone_parameters(**(defaults | settings))


def built(**settings) -> int:
    parts = stages(**settings)
    return sum(int(np.prod(v.shape)) for part in parts for v in part.trainable_variables)


@pytest.mark.parametrize("sk_ratio", [0, 0.0625])
def test_parameters_of_the_whole_resnet_50(sk_ratio):
    assert built(depth=50, sk_ratio=sk_ratio) == count(depth=50, sk_ratio=sk_ratio)


@pytest.mark.parametrize(
    "settings",
    [
        dict(depth=18, width_multiplier=0.125),
        dict(depth=34, width_multiplier=0.125, se_ratio=0.25),
        dict(depth=18, width_multiplier=0.125, sk_ratio=0.0625, small_stem=True),
        dict(depth=50, width_multiplier=0.25, sk_ratio=0.5, se_ratio=0.01),
    ],
    ids=str,
)
def test_parameters_of_small_models(settings):
    assert built(**settings) == count(**settings)


@pytest.mark.parametrize("depth", [101, 152, 200])
def test_parameters_of_the_deep_models(monkeypatch, depth):
    """The number of blocks is tested elsewhere, so two blocks show the layers of a group."""
    assert resnet.BLOCKS_PER_GROUP == BLOCKS
    monkeypatch.setitem(resnet.BLOCKS_PER_GROUP, depth, (1, 2, 1, 1))
    settings = dict(depth=depth, width_multiplier=0.0625)
    assert built(**settings) == count(**settings)


@pytest.fixture(scope="module")
def basic():
    return stages(depth=18, width_multiplier=0.125)


@pytest.fixture(scope="module")
def bottleneck_sk():
    return stages(depth=50, width_multiplier=0.125, sk_ratio=0.0625)


def sides(parts, side: int) -> list[int]:
    x, sides = np.zeros((1, side, side, 3), np.float32), []
    for part in parts:
        x = part(x)
        sides += [int(v.shape[1]) for v in (x if isinstance(x, (list, tuple)) else [x])]
        x = x[-1] if isinstance(x, (list, tuple)) else x
    return sides


@pytest.mark.parametrize(
    "side, expected",
    [(64, [32, 16, 16, 8, 4, 2]), (65, [33, 17, 17, 9, 5, 3]), (31, [16, 8, 8, 4, 2, 1])],
)
def test_sides_of_the_endpoints(basic, bottleneck_sk, side, expected):
    """Each stride halves and rounds up, at any size."""
    assert sides(basic, side) == expected
    assert sides(bottleneck_sk, side) == expected


def test_small_stem_keeps_the_size_and_has_no_pooling():
    parts = stages(depth=18, width_multiplier=0.125, small_stem=True)
    assert sides(parts, 32) == [32, 32, 32, 16, 8, 4]
    kernel = parts[0].get_layer("conv").kernel
    assert tuple(kernel.shape) == (3, 3, 3, 8)
    assert "max_pool" not in [layer.name for layer in parts[0].layers]


@pytest.mark.parametrize("side", [63, 64])
def test_symmetric_max_pooling_is_that_of_pytorch(side):
    """The windows begin one pixel before the image at every size, not only at odd ones."""
    variant = resnet.Variant(max_pool_padding="symmetric")
    stem = stages(depth=18, width_multiplier=0.125, variant=variant)[0]
    same = stages(depth=18, width_multiplier=0.125)[0]
    same.set_weights(stem.get_weights())
    images = np.random.default_rng(0).uniform(size=(2, 2 * side, 2 * side, 3)).astype(np.float32)
    convolved, pooled = (np.asarray(x) for x in stem(images))
    features = np.maximum(convolved / np.sqrt(np.float32(1 + 1e-5)), 0)
    padded = np.pad(features, ((0, 0), (1, 2), (1, 2), (0, 0)))
    starts = range(0, side, 2)
    windows = [[padded[:, i : i + 3, j : j + 3].max((1, 2)) for j in starts] for i in starts]
    expected = np.transpose(windows, (2, 0, 1, 3))
    np.testing.assert_allclose(pooled, expected, rtol=1e-5, atol=1e-6)
    assert (side % 2 == 1) == np.array_equal(pooled, same(images)[1])


@pytest.mark.parametrize("kind", ["imagenet", "cifar10"])
@pytest.mark.parametrize("small_stem", [False, True])
def test_input_normalization_is_the_first_layer(kind, small_stem):
    settings = dict(depth=18, width_multiplier=0.125, small_stem=small_stem)
    stem = stages(**settings, variant=resnet.Variant(input_normalization=kind))[0]
    plain = stages(**settings)[0]
    plain.set_weights(stem.get_weights())
    images = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype(np.float32)
    mean, deviation = np.float32(resnet.NORMALIZATIONS[kind])
    for ours, expected in zip(stem(images), plain((images - mean) / deviation), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_input_normalization_in_half_precision():
    variant = resnet.Variant(input_normalization="imagenet")
    stem = stages(depth=18, width_multiplier=0.125, variant=variant, dtype="bfloat16")[0]
    layer = stem.get_layer("normalize")
    assert layer.compute_dtype == "bfloat16"
    assert {tf.as_dtype(x.dtype).name for x in stem.outputs} == {"bfloat16"}


@pytest.mark.parametrize("depth", [18, 34])
@pytest.mark.parametrize("sk_ratio", [0, 0.0625])
def test_identity_as_the_first_shortcut(depth, sk_ratio):
    settings = dict(depth=depth, width_multiplier=0.125, sk_ratio=sk_ratio)
    parts = stages(**settings, variant=resnet.Variant(first_shortcut="identity"))
    names = [layer.name for layer in parts[1].layers]
    assert not any("shortcut" in name for name in names)
    assert any("shortcut" in layer.name for layer in parts[2].layers)
    total = sum(int(np.prod(v.shape)) for part in parts for v in part.trainable_variables)
    assert total == count(**settings, first_shortcut="identity")


def test_a_bottleneck_has_no_identity_as_the_first_shortcut():
    with pytest.raises(ValueError, match="must be projection with resnet_depth=50"):
        stages(depth=50, variant=resnet.Variant(first_shortcut="identity"))


def test_the_default_variant_adds_no_layer():
    names = {layer.name for layer in stages(depth=18, width_multiplier=0.125)[0].layers}
    assert not names & {"normalize", "max_pool.pad"}


@pytest.mark.parametrize(
    "depth, width, expected",
    [
        (34, 0.125, [8, 8, 16, 32, 64]),
        (50, 0.125, [8, 32, 64, 128, 256]),
        (50, 0.1, [6, 24, 48, 100, 204]),  # each width is rounded down separately
    ],
)
def test_channels_of_the_endpoints(depth, width, expected):
    parts = stages(depth=depth, width_multiplier=width)
    outputs = [parts[0].output_shape[-1], *(part.output_shape for part in parts[1:])]
    assert [shape[-1] for shape in outputs] == expected


def gammas(parts):
    for part in parts:
        for layer in part.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                yield f"{part.name}.{layer.name}", np.array(layer.gamma)


@pytest.mark.parametrize("model, last", [("basic", "conv2.bn"), ("bottleneck_sk", "conv3.bn")])
def test_the_last_gamma_of_each_block_is_zero_and_no_other(request, model, last):
    zeros = 0
    for name, gamma in gammas(request.getfixturevalue(model)):
        is_last = "block_group" in name and name.endswith(last)
        zeros += is_last
        assert (gamma == (0 if is_last else 1)).all(), name
    assert zeros == {"basic": 8, "bottleneck_sk": 16}[model]


def test_settings_reach_every_batch_norm():
    bn = BatchNormSettings(momentum=0.42, synchronized=False, fused=True)
    parts = stages(depth=50, width_multiplier=0.0625, sk_ratio=0.0625, se_ratio=0.1, bn=bn)
    layers = [
        layer
        for part in parts
        for layer in part.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert len(layers) == 3 + 4 + 16 * 4
    assert {(n.momentum, n.synchronized, n.epsilon) for n in layers} == {(0.42, False, 1e-5)}
    assert all(layer.get_config()["fused_in_float32"] for layer in layers)


def test_bottleneck_has_its_stride_on_the_3x3_convolution():
    part = stages(depth=50, width_multiplier=0.125)[2]
    layers = {n: part.get_layer(f"block1.{n}") for n in ("conv1", "conv2", "conv3", "shortcut")}
    kernels = {name: (layer.kernel_size, layer.strides) for name, layer in layers.items()}
    assert kernels == {
        "conv1": ((1, 1), (1, 1)),
        "conv2": ((3, 3), (2, 2)),
        "conv3": ((1, 1), (1, 1)),
        "shortcut": ((1, 1), (2, 2)),
    }
    strides = [layer.strides for layer in part.layers if isinstance(layer, keras.layers.Conv2D)]
    assert strides.count((2, 2)) == 2, "only the first block of a group strides"


def test_selective_kernels_replace_the_3x3_of_bottlenecks_only(bottleneck_sk):
    names = {layer.name for layer in bottleneck_sk[1].layers}
    assert "block1.sk.conv" in names and "block1.conv2" not in names
    basic = stages(depth=18, width_multiplier=0.125, sk_ratio=0.0625)
    names = {layer.name for layer in basic[1].layers}
    assert "block1.shortcut.pool" in names and not [n for n in names if ".sk." in n]


def output_of(part, layer: str, x) -> np.ndarray:
    return keras.Model(part.inputs, part.get_layer(layer).output)(x).numpy()


def test_shortcut_pools_before_it_projects(bottleneck_sk):
    """Stride 2 pads zeros below and to the right. Stride 1 averages over real pixels only."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 5, 32)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    expected = sum(padded[:, i : i + 5 : 2, j : j + 5 : 2] for i in (0, 1) for j in (0, 1)) / 4
    pooled = output_of(bottleneck_sk[2], "block1.shortcut.pool", x)
    np.testing.assert_allclose(pooled, expected, rtol=1e-5, atol=1e-6)
    x = x[..., :8]
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    real = np.pad(np.ones_like(x), ((0, 0), (0, 1), (0, 1), (0, 0)))
    corners = [(i, j) for i in (0, 1) for j in (0, 1)]
    sums = sum(padded[:, i : i + 5, j : j + 5] for i, j in corners)
    pooled = output_of(bottleneck_sk[1], "block1.shortcut.pool", x)
    counts = sum(real[:, i : i + 5, j : j + 5] for i, j in corners)
    np.testing.assert_allclose(pooled, sums / counts, rtol=1e-5, atol=1e-6)
    convolution = bottleneck_sk[2].get_layer("block1.shortcut")
    assert convolution.strides == (1, 1)


def test_stem_pools_the_3x3_maximum_of_relu_of_bn(basic, randomize):
    randomize(basic[0])
    x = np.random.default_rng(0).normal(size=(1, 16, 16, 3)).astype(np.float32)
    initial_conv, pooled = (v.numpy() for v in basic[0](x))
    bn = basic[0].get_layer("conv.bn")
    mean, variance, gamma, beta = (
        np.array(v) for v in (bn.moving_mean, bn.moving_variance, bn.gamma, bn.beta)
    )
    y = np.maximum((initial_conv - mean) / np.sqrt(variance + 1e-5) * gamma + beta, 0)
    y = np.pad(
        y, ((0, 0), (0, 1), (0, 1), (0, 0))
    )  # one row and column at the end, because the side is even
    expected = np.max([y[:, i : i + 7 : 2, j : j + 7 : 2] for i in range(3) for j in range(3)], 0)
    np.testing.assert_allclose(pooled, expected, rtol=1e-4, atol=1e-5)


def test_block_adds_its_shortcut_and_then_rectifies(basic):
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 8)).astype(np.float32)
    shortcuts = {"block1": "block1.shortcut.bn", "block2": "block1.out"}
    for block in shortcuts:
        outputs = {n: output_of(basic[1], f"{block}.{n}", x) for n in ("add", "out", "conv2.bn")}
        shortcut = output_of(basic[1], shortcuts[block], x)
        np.testing.assert_allclose(outputs["add"], outputs["conv2.bn"] + shortcut, atol=1e-6)
        np.testing.assert_array_equal(outputs["out"], np.maximum(outputs["add"], 0))


def test_unknown_depth():
    with pytest.raises(ValueError, match="resnet_depth must be one of .*18, 34, 50.*, got 20"):
        stages(depth=20)
