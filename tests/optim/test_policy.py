"""Which variables train, decay and adapt, according to the stable paths."""

import itertools
import re

import keras
import numpy as np
import pytest

from tf_simclr import compat
from tf_simclr.optim import policy
from tf_simclr.optim.lars import LARS
from tf_simclr.optim.policy import Group


def ids(variables) -> list[int]:
    return [id(compat.tf_variable(v)) for v in variables]


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        (dict(), "base_model/stem/"),
        (dict(fine_tune_after_block=2), "base_model/block_group3/"),
        (dict(fine_tune_after_block=4, ft_proj_selector=0), "head_supervised/"),
        (dict(fine_tune_after_block=4, num_classes=None), "head_contrastive/"),
    ],
    ids=["all", "last blocks", "heads", "projection head"],
)
def test_the_variable_that_is_updated_last_trains_and_is_nearest_to_the_image(
    tiny_model, settings, path
):
    model = tiny_model(**settings)
    [found] = [
        name
        for name, variable in model.variables_by_path().items()
        if variable is policy.last_updated(model)
    ]
    assert found.startswith(path) and found in policy.groups(model)


def expected_group(path: str) -> Group:
    """Determines the group from the path, independently of the code, which must not use names."""
    name = path.rpartition("/")[2]
    if name in ("gamma", "beta"):
        return Group.BATCH_NORM
    if path.startswith("head_supervised/"):
        return {"kernel": Group.SUPERVISED_KERNEL, "bias": Group.SUPERVISED_BIAS}[name]
    return {"kernel": Group.KERNEL, "bias": Group.BIAS}[name]


MODELS = [
    dict(proj_head_mode=mode, se_ratio=se, sk_ratio=sk)
    for mode, (se, sk) in itertools.product(
        ("none", "linear", "nonlinear"), ((0, 0), (0.25, 0), (0, 0.0625))
    )
] + [dict(num_classes=None, se_ratio=0.25)]


@pytest.mark.parametrize("settings", MODELS, ids=str)
def test_each_trainable_variable_is_in_exactly_one_group(tiny_model, settings):
    model = tiny_model(**settings)
    groups = policy.groups(model)
    assert groups == {path: expected_group(path) for path in groups}
    trainable = ids(policy.trainable_variables(model))
    assert len(set(trainable)) == len(trainable)
    assert set(trainable) == set(ids(model.trainable_variables))
    variables = model.variables_by_path()
    assert ids(variables[path] for path in groups) == trainable
    not_trained = {path.rpartition("/")[2] for path in variables.keys() - groups.keys()}
    assert not_trained == {"moving_mean", "moving_variance"}
    assert (Group.BIAS in groups.values()) == (settings["se_ratio"] > 0)


@pytest.mark.parametrize("after_block", [0, 2, 4])
def test_frozen_parts_do_not_train(tiny_model, after_block):
    model = tiny_model(fine_tune_after_block=after_block, se_ratio=0.25)
    frozen = ["stem", "block_group1", "block_group2", "block_group3", "block_group4"]
    pattern = rf"base_model/({'|'.join(frozen[: after_block + 1])})/"
    everything = policy.groups(tiny_model(se_ratio=0.25))
    expected = {path: group for path, group in everything.items() if not re.match(pattern, path)}
    assert policy.groups(model) == expected
    assert 0 < len(expected) < len(everything)


@pytest.mark.parametrize("name", ["r18_cifar", "r18_finetune_block2", "r34_se_adam"])
def test_as_many_train_as_in_the_official_code(golden, tiny_model, name):
    expected = np.load(golden(f"models/{name}") / "expected.npz")
    flags = dict(arg[2:].split("=") for arg in expected["args"])
    model = tiny_model(
        num_classes=10,
        image_size=int(flags["image_size"]),
        resnet_depth=int(flags["resnet_depth"]),
        width_multiplier=float(flags["width_multiplier"]),
        se_ratio=float(flags.get("se_ratio", 0)),
        proj_out_dim=128,
        fine_tune_after_block=int(flags.get("fine_tune_after_block", -1)),
        ft_proj_selector=int(flags.get("ft_proj_selector", 0)),
    )
    trainable = policy.trainable_variables(model)
    assert len(trainable) == int(expected["num_trainable"])
    if "finetune" not in name:
        assert sum(int(np.prod(v.shape)) for v in trainable) == int(expected["num_params"])


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model(se_ratio=0.25, fine_tune_after_block=1)


def test_with_lars_only_the_supervised_kernel_decays_in_the_loss(model):
    kernel = model.variables_by_path()["head_supervised/dense/kernel"]
    assert ids(policy.loss_decay_variables(model, "lars")) == ids([kernel])


@pytest.mark.parametrize("optimizer", ["momentum", "adam", "lamb"])
def test_without_lars_all_but_batch_norm_decays_in_the_loss(model, optimizer):
    variables = model.variables_by_path()
    expected = [
        variables[path]
        for path in policy.groups(model)
        if path.endswith(("kernel", "bias")) and not path.startswith("base_model/block_group1/")
    ]
    assert ids(policy.loss_decay_variables(model, optimizer)) == ids(expected)
    assert any(path.endswith("se/reduce/bias") for path in policy.groups(model))


def test_nothing_decays_in_the_loss_with_lars_and_no_supervised_head(tiny_model):
    assert policy.loss_decay_variables(tiny_model(num_classes=None), "lars") == []


def make(model, optimizer):
    return policy.make_optimizer(model, optimizer, 0.1, momentum=0.7, weight_decay=0.2)


def test_lars_leaves_all_but_plain_kernels_alone(model):
    optimizer = make(model, "lars")
    config = optimizer.get_config()
    paths = list(policy.groups(model))
    plain = [
        i
        for i, path in enumerate(paths)
        if not path.endswith("kernel") or path.startswith("head_supervised")
    ]
    assert isinstance(optimizer, LARS)
    assert config["exclude_from_weight_decay"] == plain
    assert config["exclude_from_layer_adaptation"] == plain
    assert (config["momentum"], config["weight_decay"], config["eeta"]) == (0.7, 0.2, 0.001)
    assert config["classic_momentum"] and not config["use_nesterov"]


def test_momentum_is_sgd_with_nesterov(model):
    config = make(model, "momentum").get_config()
    assert (config["momentum"], config["nesterov"]) == (0.7, True)
    assert not config.get("weight_decay")


def test_adam_has_its_defaults(model):
    config, default = make(model, "adam").get_config(), keras.optimizers.Adam(0.1).get_config()
    assert isinstance(make(model, "adam"), keras.optimizers.Adam)
    same = ("beta_1", "beta_2", "epsilon", "amsgrad", "weight_decay")
    assert [config[name] for name in same] == [default[name] for name in same]


@pytest.mark.parametrize("optimizer", policy.OPTIMIZERS)
def test_optimizer_is_built_for_what_trains_in_the_order_of_the_groups(model, optimizer):
    built = make(model, optimizer)
    shapes = [tuple(v.shape) for v in policy.trainable_variables(model)]
    for slots in compat.optimizer_slots(built).values():
        assert [tuple(slot.shape) for slot in slots] == shapes
    assert float(built.learning_rate) == pytest.approx(0.1)


def test_unknown_optimizer(model):
    with pytest.raises(ValueError, match="optimizer must be one of .*got 'sgd'"):
        make(model, "sgd")
