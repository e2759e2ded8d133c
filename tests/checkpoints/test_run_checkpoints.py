"""A run's own checkpoints: everything comes back, and nothing of another run's."""

import numpy as np
import pytest
import tensorflow as tf

from tf_simclr import compat
from tf_simclr.checkpoints.formats.tensorflow import object_graph
from tf_simclr.checkpoints.run_checkpoints import Checkpointer
from tf_simclr.checkpoints.weights import find, read_weights
from tf_simclr.errors import ConfigError
from tf_simclr.optim import policy
from tf_simclr.optim.schedule import WarmUpAndCosineDecay

SUFFIX = object_graph.SUFFIX


def optimizer_for(model, name="lars"):
    rate = WarmUpAndCosineDecay(0.5, warmup_steps=2, total_steps=10)
    return policy.make_optimizer(model, name, rate, momentum=0.9, weight_decay=0.01)


def step(model, optimizer, seed):
    rng = np.random.default_rng(seed)
    compat.apply_gradients(
        optimizer,
        [
            (tf.constant(rng.normal(size=tuple(v.shape)), tf.float32), v)
            for v in policy.trainable_variables(model)
        ],
    )


def slots(optimizer) -> list[np.ndarray]:
    result = compat.optimizer_slots(optimizer)
    return [np.array(v) for name in sorted(result) for v in result[name]]


def same(first, second) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.fixture(scope="module")
def model(short_model):
    return short_model()


@pytest.mark.parametrize("name", ["lars", "adam"])
def test_everything_comes_back_bit_by_bit(tmp_path, short_model, randomize, values, name):
    model = short_model(seed=1)
    randomize(model)
    optimizer = optimizer_for(model, name)
    checkpointer = Checkpointer(model, optimizer, str(tmp_path), max_to_keep=5)
    assert checkpointer.step == 0 and checkpointer.latest is None
    for seed in range(3):
        step(model, optimizer, seed)
    assert checkpointer.save() == checkpointer.latest == str(tmp_path / "ckpt-3")

    copy = short_model(seed=2)
    copied = optimizer_for(copy, name)
    restored = Checkpointer(copy, copied, str(tmp_path), max_to_keep=5)
    assert restored.latest == str(tmp_path / "ckpt-3")
    restored.check_latest()
    restored.restore(restored.latest)
    assert restored.step == 3
    for _ in range(2):  # as they are, and after one step more
        assert same(values(model).values(), values(copy).values())
        assert same(slots(optimizer), slots(copied))
        assert any(np.abs(slot).max() > 0 for slot in slots(copied))
        step(model, optimizer, 9)
        step(copy, copied, 9)


@pytest.mark.parametrize(
    "name, slot_names",
    [("lars", ["momentum"]), ("momentum", ["momentum"]), ("adam", ["momentum", "velocity"])],
)
def test_keys_are_our_paths_on_either_keras(tmp_path, model, name, slot_names):
    """test_simclr.py has the paths themselves."""
    Checkpointer(model, optimizer_for(model, name), str(tmp_path), max_to_keep=5).save()
    keys = dict(tf.train.list_variables(str(tmp_path / "ckpt-0")))
    expected = {f"model/{path}{SUFFIX}": v.shape for path, v in model.variables_by_path().items()}
    variables = model.variables_by_path()
    for path in policy.groups(model):
        for slot in slot_names:
            expected[f"optimizer/{slot}/{path}{SUFFIX}"] = variables[path].shape
    expected[f"step{SUFFIX}"] = ()
    ours = {k: shape for k, shape in keys.items() if k.startswith(("model/", "optimizer/", "step"))}
    assert ours == {key: list(shape) for key, shape in expected.items()}
    assert keys.keys() - ours.keys() <= {"_CHECKPOINTABLE_OBJECT_GRAPH", f"save_counter{SUFFIX}"}
    types = tf.train.load_checkpoint(str(tmp_path)).get_variable_to_dtype_map()
    assert types[f"step{SUFFIX}"] == tf.int64
    assert "model/base_model/stem/conv/bn/moving_variance" + SUFFIX in ours


def test_only_the_latest_are_kept(tmp_path, model):
    optimizer = optimizer_for(model)
    checkpointer = Checkpointer(model, optimizer, str(tmp_path), max_to_keep=2)
    for seed in range(4):
        step(model, optimizer, seed)
        checkpointer.save()
        checkpointer.save()  # the same step again: nothing new
    assert sorted(p.name for p in tmp_path.glob("*.index")) == ["ckpt-3.index", "ckpt-4.index"]
    assert checkpointer.latest == str(tmp_path / "ckpt-4")


def test_weights_only_restores_the_step_but_not_the_slots(tmp_path, short_model, values):
    model = short_model(seed=1)
    optimizer = optimizer_for(model)
    step(model, optimizer, 0)
    prefix = Checkpointer(model, optimizer, str(tmp_path), max_to_keep=1).save()
    copy = short_model(seed=2)
    copied = optimizer_for(copy, "adam")
    other = Checkpointer(copy, copied, str(tmp_path), max_to_keep=1)
    other.restore(prefix, weights_only=True)
    assert same(values(model).values(), values(copy).values())
    assert other.step == 1 and all(np.abs(slot).max() == 0 for slot in slots(copied))


@pytest.mark.parametrize(
    "settings, optimizer, parts",
    [
        (
            dict(num_classes=7),
            "lars",
            ["another model", "head_supervised/dense/bias: (5,) there, (7,) here"],
        ),
        (dict(se_ratio=0.25), "lars", ["another model", "se/expand/bias: absent there, (4,) here"]),
        (dict(num_classes=None), "lars", ["head_supervised/dense/bias: (5,) there, absent here"]),
        (dict(), "adam", ["another optimizer"]),
    ],
    ids=str,
)
def test_a_checkpoint_of_another_run_is_refused(
    tmp_path, model, short_model, settings, optimizer, parts
):
    Checkpointer(model, optimizer_for(model), str(tmp_path), max_to_keep=1).save()
    other = short_model(**settings)
    created = optimizer_for(other, optimizer)
    checkpointer = Checkpointer(other, created, str(tmp_path), max_to_keep=1)
    with pytest.raises(ConfigError) as error:
        checkpointer.check_latest()
    for part in (*parts, "model_dir", str(tmp_path)):
        assert part in str(error.value)


def test_an_empty_model_dir_is_fine(tmp_path, model):
    Checkpointer(model, optimizer_for(model), str(tmp_path), max_to_keep=1).check_latest()


@pytest.mark.parametrize("global_bn", [True, False])
def test_of_replicas_the_mean_is_saved_and_all_get_it_back(
    tmp_path, replicas, short_model, global_bn
):
    strategy = replicas(2)
    with strategy.scope():
        model = short_model(global_bn=global_bn)
        optimizer = optimizer_for(model)
    checkpointer = Checkpointer(model, optimizer, str(tmp_path), max_to_keep=1, strategy=strategy)
    parts = {
        path: compat.tf_variable(variable).values
        for path, variable in model.variables_by_path().items()
        if "moving_" in path
    }
    assert parts
    rng = np.random.default_rng(0)
    means = {}
    for path, (first, second) in parts.items():
        values = rng.uniform(size=(2, *first.shape)).astype(np.float32)
        if global_bn:
            values[1] = values[0]
        first.assign(values[0])
        second.assign(values[1])
        means[path] = values.mean(0)
    checkpointer.save()
    saved = read_weights(str(tmp_path))
    for path, variables in parts.items():
        np.testing.assert_allclose(saved[path], means[path], rtol=1e-6)
        for variable in variables:
            variable.assign(tf.zeros_like(variable))
    assert checkpointer.restore_latest()
    for path, variables in parts.items():
        for variable in variables:
            np.testing.assert_allclose(variable, means[path], rtol=1e-6)


def test_what_a_killed_process_left_is_removed(tmp_path, model):
    checkpointer = Checkpointer(model, optimizer_for(model), str(tmp_path), max_to_keep=1)
    checkpointer.save()
    leftover = tmp_path / "ckpt-3_temp"
    leftover.mkdir()
    (leftover / "part-00000-of-00001.data-00000-of-00001").write_bytes(b"half")
    assert checkpointer.restore_latest() == str(tmp_path / "ckpt-0")
    assert not leftover.exists()


def test_checkpoints_copied_without_their_list_are_found(tmp_path, model):
    optimizer = optimizer_for(model)
    checkpointer = Checkpointer(model, optimizer, str(tmp_path), max_to_keep=3)
    for seed in range(2):
        checkpointer.save()
        step(model, optimizer, seed)
    (tmp_path / "checkpoint").unlink()
    assert find(str(tmp_path)) == str(tmp_path / "ckpt-1")
