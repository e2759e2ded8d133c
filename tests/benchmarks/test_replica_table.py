"""The table of differences between replicas; what it trains is tested in test_replicas.py."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import replica_table
from benchmarks.__main__ import main


def test_difference_is_the_largest_relative_norm():
    expected = {"a": np.array([3.0, 4.0]), "b": np.array([[10.0]]), "c": np.zeros(2)}
    weights = {"a": np.array([3.0, 4.5]), "b": np.array([[10.2]]), "c": np.zeros(2)}
    assert replica_table.difference(weights, expected) == pytest.approx(0.1)
    assert replica_table.difference(expected, expected) == 0
    for bad in (np.nan, np.inf):
        assert not replica_table.difference(weights | {"b": np.array([[bad]])}, expected) < 1
    with np.errstate(divide="ignore"):
        assert replica_table.difference(weights | {"c": np.ones(2)}, expected) == np.inf


def test_weights_depend_on_nothing_but_the_paths(tiny_model):
    model = tiny_model(seed=1)
    replica_table.set_weights(model)
    variables = model.variables_by_path()
    path = "base_model/stem/conv/kernel"
    normal = np.random.default_rng(list(path.encode())).normal(size=(3, 3, 3, 4))
    np.testing.assert_allclose(tf.convert_to_tensor(variables[path]), normal / 27**0.5, rtol=1e-6)
    assert all(np.array(tf.convert_to_tensor(v)).all() for v in variables.values())


def test_command_line_prints_the_table_and_compares_with_another(tmp_path, monkeypatch, capsys):
    calls = []

    def train(strategy, make_model, batch, *, train_mode, learning_rate):
        number = strategy.num_replicas_in_sync
        calls.append((number, train_mode, batch[0].dtype.name, float(batch[0][0].sum())))
        weights = {"w": np.array([100.0 + number])}
        return replica_table.Run((number + 0.5, number + 0.25), {}, weights)

    monkeypatch.setattr(replica_table, "train", train)
    main(["replicas", f"--save={tmp_path}/here.npz"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"TensorFlow {tf.__version__}, Keras {keras.__version__}"
    assert [line.split(" | ")[0].strip("| ") for line in lines[4:]] == [
        name for name in replica_table.MODELS for _ in range(2)
    ]
    assert lines[4].endswith(
        "| float32 | 1.5 / 2.5 / 4.5 | 1.25 / 2.25 / 4.25 | 0e+00 | 1e-02 | 3e-02 |"
    )
    assert [number for number, *_ in calls[:4]] == [1, 2, 4, 1]
    first, *same, reordered = [image for *_, image in calls[:4]]
    assert same == [first, first] and reordered != first
    assert {(mode, dtype) for _, mode, dtype, _ in calls} == {
        (mode, dtype) for mode in ("pretrain", "finetune") for dtype in ("float32", "float64")
    }
    assert keras.backend.floatx() == "float32"

    saved = {name: value * 1.5 for name, value in np.load(tmp_path / "here.npz").items()}
    np.savez(tmp_path / "there.npz", **saved)
    main(["replicas", f"--against={tmp_path}/there.npz"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].endswith("| the other stack |") and lines[4].endswith("| 3e-01 |")
