"""Checkpoints of the official TF2 code under our paths, and what they compute."""

import numpy as np
import pytest

from tf_simclr.checkpoints.formats.tensorflow import official_tf2
from tf_simclr.checkpoints.weights import restore_weights


def flags_of(expected) -> dict[str, str]:
    return dict(argument[2:].split("=") for argument in expected["args"])


def test_endpoints_equal_those_of_the_official_code(golden, tiny_model, randomize):
    """tools/verify_golden compares all of the golden models; here is one."""
    folder = golden("models/r18_cifar")
    expected = np.load(folder / "expected.npz")
    flags = flags_of(expected)
    model = tiny_model(
        num_classes=10,
        proj_out_dim=128,
        image_size=int(flags["image_size"]),
        resnet_depth=int(flags["resnet_depth"]),
        width_multiplier=float(flags["width_multiplier"]),
    )
    randomize(model)
    report = restore_weights(model, str(folder / "ckpt-0"))
    assert set(report.restored) == set(model.variables_by_path())
    images = np.concatenate(np.split(expected["x"], 2, axis=-1))
    endpoints = model(images, training=False)
    names = [name.removeprefix("eval|") for name in expected if name.startswith("eval|")]
    assert len(names) == 9
    for name in names:
        result = endpoints[name].numpy()
        result = result.mean((1, 2)) if result.ndim == 4 else result
        np.testing.assert_allclose(
            result, expected[f"eval|{name}"], rtol=1e-3, atol=1e-4, err_msg=name
        )


@pytest.mark.parametrize(
    "name, settings",
    [
        ("r34_se_adam", dict(resnet_depth=34, se_ratio=0.25)),
        ("r50", dict(resnet_depth=50)),
        ("r50_sk", dict(resnet_depth=50, sk_ratio=0.0625)),
    ],
)
def test_each_variable_has_its_counterpart_of_the_same_shape(golden, tiny_model, name, settings):
    model = tiny_model(
        num_classes=10, proj_out_dim=128, image_size=64, width_multiplier=0.125, **settings
    )
    result = official_tf2.read(str(golden(f"models/{name}") / "ckpt-0"))
    ours = {path: tuple(v.shape) for path, v in model.variables_by_path().items()}
    assert {path: value.shape for path, value in result.items()} == ours


@pytest.fixture
def keys() -> dict[str, str]:
    stem = "model/resnet_model/initial_conv_relu_max_pool"
    block = "model/resnet_model/block_groups/2/layers/1"
    main = f"{block}/conv_relu_dropblock_layers"
    projection = "model/_projection_head/linear_layers"
    return {
        f"{stem}/0/conv2d/kernel": "base_model/stem/conv1/kernel",
        f"{stem}/1/bn/gamma": "base_model/stem/conv1/bn/gamma",
        f"{stem}/5/conv2d/kernel": "base_model/stem/conv/kernel",
        f"{stem}/6/bn/beta": "base_model/stem/conv/bn/beta",
        f"{block}/shortcut_layers/1/conv2d/kernel": "{}/shortcut/kernel",
        f"{block}/shortcut_layers/2/bn/moving_mean": "{}/shortcut/bn/moving_mean",
        f"{main}/0/conv2d/kernel": "{}/conv1/kernel",
        f"{main}/3/conv2d_fixed_padding/conv2d/kernel": "{}/sk/conv/kernel",
        f"{main}/3/batch_norm_relu_1/bn/gamma": "{}/sk/reduce/bn/gamma",
        f"{main}/3/conv2d_1/kernel": "{}/sk/expand/kernel",
        f"{main}/5/conv2d/kernel": "{}/conv3/kernel",
        f"{projection}/0/dense/kernel": "head_contrastive/layer1/dense/kernel",
        f"{projection}/2/bn_relu/bn/gamma": "head_contrastive/layer3/dense/bn/gamma",
        "model/supervised_head/linear_layer/dense/bias": "head_supervised/dense/bias",
    }


def test_paths_go_by_rank_in_a_list_not_by_index(keys):
    block = "base_model/block_group3/block2"
    expected = {key: path.format(block) for key, path in keys.items()}
    assert official_tf2.paths(list(keys)) == expected


@pytest.mark.parametrize(
    "key", ["model/resnet_model/block_groups/0/layers/0/attention/kernel", "model/decoder/kernel"]
)
def test_an_unknown_variable_is_an_error(key):
    with pytest.raises(ValueError, match=f"{key} is not a variable of the official model"):
        official_tf2.paths([key])


def test_is_official(keys):
    assert official_tf2.is_official(keys)
    assert not official_tf2.is_official(["model/base_model/stem/conv/kernel", "step"])
