"""--checkpoint: weights from a checkpoint, a model_dir or a SavedModel of another run."""

import re

import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.checkpoints import weights
from tf_simclr.checkpoints.formats.tensorflow import object_graph, saved_model
from tf_simclr.checkpoints.run_checkpoints import Checkpointer
from tf_simclr.checkpoints.weights import restore_weights
from tf_simclr.errors import ConfigError
from tf_simclr.optim import policy

README_SCHEMA = "(?!global_step|(?:.*/|^)Momentum|head)"


@pytest.fixture(scope="module")
def source(short_model, randomize):
    model = short_model(seed=1)
    randomize(model)
    return model


@pytest.fixture(scope="module")
def model_dir(source, tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("run"))
    optimizer = policy.make_optimizer(source, "lars", 0.1, momentum=0.9, weight_decay=0)
    checkpointer = Checkpointer(source, optimizer, directory, max_to_keep=5)
    for step in (1, 2):
        optimizer.iterations.assign(step)
        checkpointer.save()
    return directory


@pytest.fixture(scope="module")
def expected(source, values):
    return values(source)


def taken(model, expected, values) -> set[str]:
    """Paths of the variables that have the source's values."""
    return {
        path
        for path, value in values(model).items()
        if path in expected and np.array_equal(value, expected[path])
    }


def rows(report) -> dict[str, list[int]]:
    """{part of the model: numbers restored, left out, not in the checkpoint}, as printed."""
    header, *lines = str(report).splitlines()
    assert re.split(r"  +", header.strip()) == ["variables", "restored", "left out", "missing"]
    return {
        name: [0 if n == "-" else int(n) for n in counts]
        for name, *counts in (line.split() for line in lines)
    }


@pytest.mark.parametrize("path", ["{}/ckpt-1", "{}", "{}/"])
def test_prefix_and_directory(model_dir, short_model, expected, values, path):
    model = short_model(seed=2)
    report = restore_weights(model, path.format(model_dir))
    assert taken(model, expected, values) == set(expected) == set(report.restored)
    assert report.skipped == report.missing == []
    assert rows(report) == {
        part: [sum(p.startswith(f"{part}/") for p in expected), 0, 0]
        for part in ("base_model", "head_contrastive", "head_supervised")
    }


def test_saved_model(tmp_path, source, short_model, expected, values, monkeypatch):
    # The functions in it do not matter here, and take long to trace.
    module = tf.train.Checkpoint(model=object_graph.variable_tree(source.variables_by_path()))
    module.variables = [v for v in tf.nest.flatten(source.variables_by_path())]
    exportable = saved_model.Exportable(module, signatures={})
    monkeypatch.setattr(saved_model, "exportable", lambda model, about: exportable)
    path = saved_model.export(source, str(tmp_path), 3, keep=1)
    model = short_model(seed=2)
    restore_weights(model, path)
    assert taken(model, expected, values) == set(expected)


def test_find_takes_the_latest(model_dir):
    assert weights.find(model_dir) == f"{model_dir}/ckpt-2"
    assert weights.find(f"{model_dir}/ckpt-1") == f"{model_dir}/ckpt-1"


@pytest.mark.parametrize(
    "path, message",
    [
        ("nowhere", "does not exist"),
        ("nowhere/ckpt-1", "does not exist"),
        ("", "is a directory without a checkpoint, a SavedModel"),
    ],
)
def test_no_such_checkpoint(tmp_path, path, message):
    with pytest.raises(ConfigError, match=message):
        weights.find(str(tmp_path / path))


@pytest.mark.parametrize(
    "schema, selected",
    [
        (README_SCHEMA, "base_model/"),
        ("(?!head_supervised)", "(base_model|head_contrastive)/"),
        ("base_model", "base_model/"),
        (".*moving_mean$", ".*moving_mean$"),
    ],
)
def test_variable_schema_selects_from_the_start_of_the_path(
    model_dir, short_model, expected, values, schema, selected
):
    model = short_model(seed=2)
    before = values(model)
    report = restore_weights(model, model_dir, variable_schema=schema)
    chosen = {path for path in expected if re.match(selected, path)}
    assert set(report.restored) == chosen
    assert set(report.skipped) == set(expected) - chosen
    after = values(model)
    for path in expected:
        wanted = expected if path in chosen else before
        np.testing.assert_array_equal(after[path], wanted[path])
    counts = np.array(list(rows(report).values()))
    assert counts.sum(axis=0).tolist() == [len(chosen), len(expected) - len(chosen), 0]


def test_zero_init_logits_layer_zeroes_the_supervised_head(
    model_dir, short_model, randomize, expected, values
):
    model = short_model(num_classes=9)  # another class count is no hindrance
    randomize(model, seed=5)
    report = restore_weights(model, model_dir, zero_init_logits_layer=True)
    head = {"head_supervised/dense/kernel", "head_supervised/dense/bias"}
    assert set(report.skipped) == head
    assert taken(model, expected, values) == set(expected) - head
    for path in head:
        assert not values(model)[path].any()


def refused(model, path, values, **settings) -> str:
    """The message; nothing must have been assigned."""
    before = values(model)
    with pytest.raises(ConfigError) as error:
        restore_weights(model, path, **settings)
    after = values(model)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    return str(error.value)


def test_another_class_count_names_shapes_and_ways_out(model_dir, short_model, values):
    message = refused(short_model(num_classes=9), model_dir, values)
    for part in (
        "head_supervised/dense/kernel has shape (32, 5) there and (32, 9) here",
        "--zero_init_logits_layer",
        "--variable_schema='(?!head_supervised)'",
    ):
        assert part in message, message


def test_another_projection_head_names_shapes_and_ways_out(model_dir, short_model, values):
    message = refused(short_model(proj_out_dim=4), model_dir, values)
    for part in ("has shape (32, 8) there and (32, 4) here", "--variable_schema='(?!head)'"):
        assert part in message, message
    restore_weights(short_model(proj_out_dim=4), model_dir, variable_schema="(?!head)")


def test_another_width_is_refused(model_dir, short_model, values):
    message = refused(short_model(width_multiplier=0.125), model_dir, values)
    assert "base_model/stem/conv/kernel has shape (3, 3, 3, 4) there and (3, 3, 3, 8)" in message
    assert "model flags" in message


def test_a_missing_part_of_the_encoder_is_refused(model_dir, short_model, values):
    message = refused(short_model(se_ratio=0.25), model_dir, values)
    assert "lacks base_model/block_group1/block1/se/" in message
    schema = r"(?!.*/se/)"  # what the schema leaves out may be missing
    restore_weights(short_model(se_ratio=0.25), model_dir, variable_schema=schema)


def test_missing_heads_keep_their_values(model_dir, short_model, expected, values):
    model = short_model(num_proj_layers=4, seed=2)
    fourth = {p for p in values(model) if p.startswith("head_contrastive/layer4/")}
    schema = "(?!head_contrastive/layer3)"  # which is not the last layer any more
    report = restore_weights(model, model_dir, variable_schema=schema)
    assert set(report.missing) == fourth
    assert rows(report)["head_contrastive"][1:] == [5, len(fourth)]


def test_a_schema_that_selects_nothing_is_refused(model_dir, short_model, values):
    message = refused(short_model(), model_dir, values, variable_schema="encoder/")
    assert "no variable that variable_schema selects" in message


def test_a_checkpoint_of_something_else_is_refused(tmp_path, short_model, values):
    prefix = tf.train.Checkpoint(net=tf.Variable(1.0)).write(str(tmp_path / "ckpt"))
    message = refused(short_model(), prefix, values)
    assert "neither one of ours nor one of the official" in message and "net/" in message
