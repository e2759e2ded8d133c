"""SavedModels of the official code: their variables are read, and their graph is never loaded."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2
from tests import tf1_checkpoints

from tf_simclr.checkpoints import recognition, weights, weights_file
from tf_simclr.checkpoints.formats.tensorflow import object_graph, official_tf2
from tf_simclr.config import Config
from tf_simclr.errors import ConfigError

KEY = "variables/{}/.ATTRIBUTES/VARIABLE_VALUE"


@pytest.fixture(autouse=True)
def no_graph(monkeypatch):
    """Ends a test that loads a SavedModel's graph."""

    def load(path, *_, **__):
        raise AssertionError(f"the graph of {path} is loaded")

    monkeypatch.setattr(tf.saved_model, "load", load)


def add(graph, parent: int, name: str, child: int | None = None) -> int:
    if child is None:
        graph.nodes.add()
        child = len(graph.nodes) - 1
    graph.nodes[parent].children.add(node_id=child, local_name=name)
    return child


def write_saved_model(directory, checkpoint, change=None) -> str:
    """Writes an official checkpoint's variables as the released SavedModels have them.

    The keys are numbers, the list trainable_variables_list is empty, and Keras's lists name each
    variable again.
    """
    reader = tf.train.load_checkpoint(checkpoint)
    graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(
        reader.get_tensor(object_graph.OBJECT_GRAPH)
    )
    (model,) = (c.node_id for c in graph.nodes[0].children if c.local_name == "model")
    values, nodes = {}, []
    for number, node in enumerate(graph.nodes):
        for attribute in node.attributes:
            if attribute.checkpoint_key.startswith("model/"):
                value = reader.get_tensor(attribute.checkpoint_key)
                attribute.checkpoint_key = KEY.format(len(values))
                values[attribute.checkpoint_key] = value
                nodes.append(number)
    add(graph, 0, "trainable_variables_list")
    for name in ("variables", "trainable_variables"):
        aliases = add(graph, model, name)
        for rank, node in enumerate(nodes):
            add(graph, aliases, str(rank), node)
    if change:
        change(graph, model)
    (directory / "variables").mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(b"not read")
    tf1_checkpoints.write(
        directory / "variables" / "variables",
        values | {object_graph.OBJECT_GRAPH: np.array(graph.SerializeToString())},
    )
    return str(directory)


def test_variables_are_found_where_their_lists_are_empty(golden, tmp_path):
    checkpoint = str(golden("models/r18_cifar") / "ckpt-0")
    stored = weights_file.open_weights(write_saved_model(tmp_path / "released", checkpoint))
    assert stored.kind == "a TF2 SavedModel of the official code"
    expected = official_tf2.read(checkpoint)
    assert set(stored.shapes) == set(expected) and len(expected) == 121
    for name, value in expected.items():
        np.testing.assert_array_equal(stored.read(name), value, err_msg=name)


def test_a_second_name_of_a_variable_does_not_count(golden, tmp_path):
    def change(graph, model):
        (first,) = (c.node_id for c in graph.nodes[model].children if c.local_name == "variables")
        add(graph, model, "layers_of_another_release", first)

    checkpoint = str(golden("models/r18_cifar") / "ckpt-0")
    path = write_saved_model(tmp_path / "released", checkpoint, change)
    assert len(weights_file.open_weights(path).shapes) == 121


def test_an_unknown_variable_is_an_error(golden, tmp_path):
    def change(graph, model):
        decoder = add(graph, model, "decoder")
        kernel = add(graph, decoder, "kernel")
        graph.nodes[kernel].attributes.add(name="VARIABLE_VALUE", checkpoint_key="variables/999")

    checkpoint = str(golden("models/r18_cifar") / "ckpt-0")
    path = write_saved_model(tmp_path / "released", checkpoint, change)
    message = "model/decoder/kernel is not a variable of the official model"
    with pytest.raises(ConfigError, match=message) as error:
        weights_file.open_weights(path)
    assert path in str(error.value) and "\n" not in str(error.value)


def test_a_variable_that_is_missing_is_an_error(golden, tmp_path):
    def change(graph, model):
        attributes = (attribute for node in graph.nodes for attribute in node.attributes)
        first = next(a for a in attributes if a.checkpoint_key == KEY.format(0))
        first.checkpoint_key = "variables/999"

    checkpoint = str(golden("models/r18_cifar") / "ckpt-0")
    path = write_saved_model(tmp_path / "released", checkpoint, change)
    with pytest.raises(ConfigError, match="is not in the file"):
        weights_file.open_weights(path)


def test_a_saved_model_of_another_program(tmp_path):
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"not read")
    tf.train.Checkpoint(model=tf.train.Checkpoint(kernel=tf.Variable([1.0]))).write(
        str(tmp_path / "variables" / "variables")
    )
    with pytest.raises(ConfigError, match="neither one of ours nor one of the official code"):
        weights_file.open_weights(str(tmp_path))


def test_endpoints_equal_those_of_the_official_code(golden, tiny_model, randomize):
    folder = golden("saved_model")
    expected = np.load(folder / "expected.npz")
    model = tiny_model(
        num_classes=10, image_size=32, resnet_depth=18, width_multiplier=0.25, proj_out_dim=128
    )
    randomize(model)
    report = weights.restore_weights(model, str(folder))
    assert set(report.restored) == set(model.variables_by_path())
    endpoints = model(expected["x"], training=False)
    names = [key.removeprefix("eval|") for key in expected if key.startswith("eval|")]
    assert len(names) == 10
    for name in names:
        result, value = endpoints[name].numpy(), expected[f"eval|{name}"]
        result = result.mean((1, 2)) if result.ndim == 4 else result
        assert np.abs(result - value).max() < 1e-5 * np.abs(value).max(), name


def test_the_network_is_recognized(golden):
    folder = str(golden("saved_model"))
    stored = weights_file.open_weights(folder)
    config = recognition.fit(Config().replace(mode="predict"), stored, path=folder)
    assert recognition.describe(stored, config) == (
        "a TF2 SavedModel of the official code; ResNet-18 0.25x, small stem, projection head of 3 "
        "layers to 128, 10 classes"
    )
    assert stored.settings == {"ft_proj_selector": 0} and stored.notes == ()


def test_half_a_saved_model_is_an_error_of_one_line(golden, tmp_path):
    shutil.copytree(golden("saved_model"), tmp_path / "half", copy_function=shutil.copyfile)
    data = tmp_path / "half" / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:5000])
    with pytest.raises(ConfigError, match="cannot be read .*: give another") as error:
        weights.read_weights(str(tmp_path / "half"))
    assert "\n" not in str(error.value)
