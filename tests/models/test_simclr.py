"""The model: endpoints by name, frozen parts, the stopped gradient, stable paths."""

import hashlib

import numpy as np
import pytest
import tensorflow as tf

from tf_simclr import compat
from tf_simclr.models.simclr import SimCLR

IMAGES = np.random.default_rng(0).uniform(size=(4, 32, 32, 3)).astype(np.float32)

SMALL_PATHS = """
head_contrastive/layer1/dense/bn/beta head_contrastive/layer1/dense/bn/gamma
head_contrastive/layer1/dense/bn/moving_mean head_contrastive/layer1/dense/bn/moving_variance
head_contrastive/layer1/dense/kernel head_contrastive/layer2/dense/bn/gamma
head_contrastive/layer2/dense/bn/moving_mean head_contrastive/layer2/dense/bn/moving_variance
head_contrastive/layer2/dense/kernel head_supervised/dense/bias head_supervised/dense/kernel
""".split()


@pytest.fixture(scope="module")
def model(tiny_model, randomize):
    model = tiny_model(ft_proj_selector=1)
    randomize(model)
    return model


def test_endpoints(model):
    endpoints = model(IMAGES)
    assert {name: tuple(value.shape) for name, value in endpoints.items()} == {
        "initial_conv": (4, 32, 32, 4),
        "initial_max_pool": (4, 32, 32, 4),
        "block_group1": (4, 32, 32, 4),
        "block_group2": (4, 16, 16, 8),
        "block_group3": (4, 8, 8, 16),
        "block_group4": (4, 4, 4, 32),
        "final_avg_pool": (4, 32),
        "proj_head_input": (4, 32),
        "proj_head_output": (4, 8),
        "logits_sup": (4, 5),
    }
    pooled = endpoints["block_group4"].numpy().mean((1, 2))
    np.testing.assert_allclose(endpoints["final_avg_pool"], pooled, rtol=1e-5)
    np.testing.assert_array_equal(endpoints["proj_head_input"], endpoints["final_avg_pool"])


def test_each_endpoint_is_the_input_of_the_next_part(model):
    endpoints = model(IMAGES)
    names = ["initial_max_pool", "block_group1", "block_group2", "block_group3", "block_group4"]
    for stage, before, after in zip(model.stages[1:], names[:-1], names[1:], strict=True):
        np.testing.assert_array_equal(stage(endpoints[before]), endpoints[after])


def test_images_of_another_size_and_shape(model):
    assert model(np.zeros((1, 48, 40, 3), np.float32))["block_group4"].shape == (1, 6, 5, 32)


def test_image_size_above_32_takes_the_large_stem(tiny_model):
    small, large = tiny_model(image_size=32), tiny_model(image_size=33)
    assert tuple(small.variables_by_path()["base_model/stem/conv/kernel"].shape) == (3, 3, 3, 4)
    assert tuple(large.variables_by_path()["base_model/stem/conv/kernel"].shape) == (7, 7, 3, 4)


@pytest.mark.parametrize(
    "settings, shapes",
    [
        (dict(proj_head_mode="none"), {"proj_head_output": (4, 32), "logits_sup": (4, 5)}),
        (dict(proj_head_mode="linear"), {"proj_head_output": (4, 8), "logits_sup": (4, 5)}),
        (dict(num_classes=None), {"proj_head_output": (4, 8), "logits_sup": None}),
    ],
    ids=str,
)
def test_other_heads(tiny_model, settings, shapes):
    endpoints = tiny_model(**settings)(IMAGES)
    for name, shape in shapes.items():
        assert (tuple(endpoints[name].shape) if shape else endpoints.get(name)) == shape


@pytest.mark.parametrize("selector, width", [(0, 32), (1, 32), (2, 32), (3, 8), (-1, 8)])
def test_ft_proj_selector_chooses_the_hidden_that_is_classified(
    tiny_model, randomize, selector, width
):
    model = tiny_model(ft_proj_selector=selector)
    randomize(model)
    endpoints = model(IMAGES)
    hiddens = [endpoints["final_avg_pool"].numpy()]
    for layer in model.projection_layers:
        hiddens.append(layer(hiddens[-1]).numpy())
    np.testing.assert_allclose(endpoints["proj_head_output"], hiddens[-1], rtol=1e-5, atol=1e-5)
    variables = model.variables_by_path()
    kernel, bias = (np.array(variables[f"head_supervised/dense/{n}"]) for n in ("kernel", "bias"))
    assert kernel.shape == (width, 5)
    expected = hiddens[selector] @ kernel + bias
    np.testing.assert_allclose(endpoints["logits_sup"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stops", [True, False])
def test_supervised_gradient_stops_before_the_encoder_in_pretraining(tiny_model, stops):
    model = tiny_model(stop_supervised_gradient=stops)
    variables = {p: compat.tf_variable(v) for p, v in model.variables_by_path().items()}
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(IMAGES, training=True)["logits_sup"]))
    paths = ("head_supervised/dense/kernel", "base_model/block_group1/block1/shortcut/kernel")
    head, encoder = tape.gradient(loss, [variables[path] for path in paths])
    assert np.abs(head).max() > 0
    assert (encoder is None) == stops
    assert stops or np.abs(encoder).max() > 0


def moved(model, values) -> set[str]:
    """Returns the parts whose moving averages a training pass changes, all of a part or none."""
    before = values(model)
    model(IMAGES, training=True)
    after = values(model)
    changed, kept = set(), set()
    for path in before:
        same = np.array_equal(before[path], after[path])
        if "/moving_" in path:
            (kept if same else changed).add("/".join(path.split("/")[:2]))
        else:
            assert same, path
    assert not changed & kept
    return changed


ENCODER = ["base_model/stem"] + [f"base_model/block_group{i}" for i in range(1, 5)]
HEAD = {f"head_contrastive/layer{i}" for i in (1, 2, 3)}


@pytest.mark.parametrize("after_block", [-1, 0, 2, 4])
def test_frozen_parts_leave_their_moving_averages_alone(tiny_model, randomize, values, after_block):
    model = tiny_model(fine_tune_after_block=after_block)
    randomize(model)
    assert moved(model, values) == set(ENCODER[after_block + 1 :]) | HEAD


def test_frozen_parts_normalize_by_the_batch_only_on_request(tiny_model, randomize, values):
    frozen = tiny_model(fine_tune_after_block=2)
    official = tiny_model(fine_tune_after_block=2, frozen_batch_norm="training")
    randomize(frozen)
    randomize(official)
    inference = frozen(IMAGES, training=False)
    for name in ("initial_max_pool", "block_group1", "block_group2"):
        in_training = frozen(IMAGES, training=True)[name]
        np.testing.assert_array_equal(in_training, inference[name])
        assert np.abs(official(IMAGES, training=True)[name] - inference[name]).max() > 0.01
    in_training = frozen(IMAGES, training=True)["block_group3"]
    assert np.abs(in_training - inference["block_group3"]).max() > 0.01
    assert moved(official, values) == set(ENCODER) | HEAD


def test_paths_of_a_small_model(tiny_model):
    """Literal, because checkpoints contain these names with both versions of Keras."""
    paths = sorted(tiny_model(num_proj_layers=2).variables_by_path())
    assert [p for p in paths if not p.startswith("base_model/")] == SMALL_PATHS
    owners = {path.rpartition("/")[0] for path in paths if path.startswith("base_model/")}
    convolutions = {"base_model/stem/conv"}
    for group in range(1, 5):
        for block, extra in ((1, ("shortcut",)), (2, ())):
            for name in ("conv1", "conv2", *extra):
                convolutions.add(f"base_model/block_group{group}/block{block}/{name}")
    assert owners == convolutions | {f"{name}/bn" for name in convolutions}
    assert {p.rpartition("/")[2] for p in paths if "/bn/" in p} == {
        "gamma",
        "beta",
        "moving_mean",
        "moving_variance",
    }


def test_paths_of_the_largest_kind_of_model(tiny_model):
    model = tiny_model(resnet_depth=50, image_size=64, sk_ratio=0.0625, se_ratio=0.25)
    paths = sorted(model.variables_by_path())
    assert "base_model/stem/conv1/bn/gamma" in paths
    assert "base_model/block_group4/block3/sk/reduce/bn/moving_variance" in paths
    assert "base_model/block_group1/block1/se/expand/bias" in paths
    digest = hashlib.sha256("\n".join(paths).encode()).hexdigest()
    assert len(paths) == 451
    assert digest == "e53cb56c4913abc902cf9551bc9d16444085865b88fbd44b5a4a670a83c5bc66"


def test_paths_name_each_variable_once(model):
    variables = [compat.tf_variable(v) for v in model.variables_by_path().values()]
    assert len({id(v) for v in variables}) == len(variables) == len(model.weights)
    tracked = {id(compat.tf_variable(v)) for v in model.weights}
    assert tracked == {id(v) for v in variables}


def test_same_seed_same_weights(tiny_model, values):
    first, second, third = (values(tiny_model(seed=seed)) for seed in (1, 1, 2))
    kernel = "base_model/block_group2/block1/conv2/kernel"
    assert all(np.array_equal(first[path], second[path]) for path in first)
    assert not np.array_equal(first[kernel], third[kernel])


def test_config_round_trip(tiny_model):
    model = tiny_model(
        num_classes=7,
        sk_ratio=0.1,
        fine_tune_after_block=1,
        ft_proj_selector=2,
        batch_norm_decay=0.8,
        frozen_batch_norm="training",
    )
    copy = SimCLR.from_config(model.get_config())
    assert copy.get_config() == model.get_config()
    shapes = [{p: tuple(v.shape) for p, v in m.variables_by_path().items()} for m in (model, copy)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_encoder_has_float32_variables_and_endpoints(short_model, precision):
    settings = dict(resnet_depth=50, sk_ratio=0.0625, se_ratio=0.25)
    plain, model = short_model(**settings), short_model(**settings, precision=precision)
    assert {tf.as_dtype(v.dtype) for v in model.variables_by_path().values()} == {tf.float32}
    images = tf.constant(np.random.default_rng(0).uniform(size=(8, 16, 16, 3)), tf.float32)
    expected = plain(images, training=True)
    graph = tf.function(lambda: model(images, training=True)).get_concrete_function().graph
    kinds = {
        (op.inputs[0].shape[1] == 1, op.inputs[0].dtype)
        for op in graph.get_operations()
        if op.type == "Conv2D"
    }
    # Means over all pixels and the gates that depend on them are float32.
    assert kinds == {(False, tf.as_dtype(precision)), (True, tf.float32)}
    endpoints = model(images, training=True)
    assert {value.dtype for value in endpoints.values()} == {tf.float32}
    for name in ("block_group4", "final_avg_pool"):
        error = tf.norm(endpoints[name] - expected[name]) / tf.norm(expected[name])
        assert 1e-6 < float(error) < {"bfloat16": 0.1, "float16": 0.02}[precision], name
    # A model of the same configuration has the same precision.
    assert model.get_config()["precision"] == precision
