"""The graph beside official weights tells which layer their supervised head reads."""

import numpy as np
import pytest
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tests import tf1_checkpoints

from tf_simclr.checkpoints import recognition, weights_file
from tf_simclr.checkpoints.formats.tensorflow import official_graph
from tf_simclr.config import Config

# The nodes of the official code's graph that are on the way, as its TF2 export has them.
LAYERS = [
    ("head_supervised/linear_layer/dense_3/MatMul", "MatMul"),
    ("StopGradient", "StopGradient"),
    ("projection_head/Relu_1", "Relu"),
    ("projection_head/nl_1/batch_norm_relu_22/batchnorm/add_1", "AddV2"),
    ("projection_head/nl_1/batch_norm_relu_22/batchnorm/mul_1", "Mul"),
    ("projection_head/nl_1/dense_1/MatMul", "MatMul"),
    ("projection_head/Relu", "Relu"),
    ("projection_head/nl_0/batch_norm_relu_21/batchnorm/add_1", "AddV2"),
    ("projection_head/nl_0/batch_norm_relu_21/batchnorm/mul_1", "Mul"),
    ("projection_head/nl_0/dense/MatMul", "MatMul"),
    ("projection_head/proj_head_input", "Identity"),
    ("resnet/final_avg_pool", "Identity"),
    ("resnet/Mean", "Mean"),
    ("resnet/block_group4/Relu", "Relu"),
]
READS = {0: "projection_head/proj_head_input", 1: "projection_head/Relu", 2: LAYERS[2][0]}


def fill(nodes, selector: int, port: str = ":output:0"):
    """Adds the nodes; the head reads the chosen layer."""
    for number, (name, op) in enumerate(LAYERS):
        following = [LAYERS[number + 1][0]] if number + 1 < len(LAYERS) else []
        if name == "StopGradient":
            following = [READS[selector]]
        nodes.add(name=name, op=op, input=[f"{each}{port}" for each in following] + ["weights"])


@pytest.fixture(scope="module")
def values():
    _, shapes = tf1_checkpoints.encoder(18, 0.0625)
    names, _ = tf1_checkpoints.encoder(18, 0.0625)
    values = {names[path]: np.zeros(shape, np.float32) for path, shape in shapes.items()}
    for layer, out in (("nl_0", 32), ("nl_1", 32), ("nl_2", 8)):
        values[f"head_contrastive/{layer}/dense/kernel"] = np.zeros((32, out), np.float32)
    values["head_supervised/linear_layer/dense/kernel"] = np.zeros((32, 10), np.float32)
    values["head_supervised/linear_layer/dense/bias"] = np.zeros(10, np.float32)
    return values


@pytest.mark.parametrize("selector", READS)
def test_the_graph_of_a_tf1_checkpoint_tells(tmp_path, values, selector):
    prefix = tf1_checkpoints.write(tmp_path / "model.ckpt-7", values)
    meta = meta_graph_pb2.MetaGraphDef()
    fill(meta.graph_def.node, selector, port="")
    (tmp_path / "model.ckpt-7.meta").write_bytes(meta.SerializeToString())
    stored = weights_file.open_weights(prefix)
    assert stored.settings == {"ft_proj_selector": selector} and stored.notes == ()
    config = recognition.fit(Config().replace(mode="predict"), stored, path=prefix)
    assert config.model.ft_proj_selector == selector
    fixed = recognition.fit(
        Config().replace(mode="predict"), stored, path=prefix, fixed=["ft_proj_selector"]
    )
    assert fixed.model.ft_proj_selector == 0


@pytest.mark.parametrize("selector", READS)
def test_the_graph_of_a_saved_model_tells(tmp_path, values, selector):
    (tmp_path / "variables").mkdir()
    tf1_checkpoints.write(tmp_path / "variables" / "variables", values)
    saved_model = saved_model_pb2.SavedModel()
    library = saved_model.meta_graphs.add().graph_def.library
    for name in ("__inference___call___1", "__inference___call___2"):
        function = library.function.add()
        function.signature.name = name
        fill(function.node_def, selector)
    # A layer's own function does not show what it is called with.
    layer = library.function.add()
    layer.node_def.add(
        name="head_supervised/dense/MatMul", op="MatMul", input=["inputs", "weights"]
    )
    (tmp_path / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    assert weights_file.open_weights(str(tmp_path)).settings == {"ft_proj_selector": selector}


def test_the_official_saved_model_reads_the_backbone(golden):
    prefix = golden("saved_model") / "variables" / "variables"
    assert official_graph.projection_layers_read(str(prefix)) == 0


def two_heads(graph):
    fill(graph.node, 0)
    graph.node.add(name="head_supervised/other/MatMul", op="MatMul", input=["resnet/Mean"])


def circle(graph):
    graph.node.add(name="head_supervised/MatMul", op="MatMul", input=["a"])
    graph.node.add(name="a", op="Relu", input=["b"])
    graph.node.add(name="b", op="Relu", input=["a"])


def end(graph):
    graph.node.add(name="head_supervised/MatMul", op="MatMul")


def two_answers(graph):
    for selector in (0, 1):
        fill(graph.library.function.add().node_def, selector)


@pytest.mark.parametrize("change", [two_heads, circle, end, two_answers, lambda graph: None])
def test_a_graph_that_does_not_tell_leaves_a_note(tmp_path, values, change):
    prefix = tf1_checkpoints.write(tmp_path / "model.ckpt-7", values)
    graph = graph_pb2.GraphDef()
    change(graph)
    meta = meta_graph_pb2.MetaGraphDef(graph_def=graph)
    (tmp_path / "model.ckpt-7.meta").write_bytes(meta.SerializeToString())
    stored = weights_file.open_weights(prefix)
    assert stored.settings == {} and "--ft_proj_selector" in stored.notes[0]


def test_a_file_that_is_no_graph_or_too_large_leaves_a_note(tmp_path, values, monkeypatch):
    prefix = tf1_checkpoints.write(tmp_path / "model.ckpt-7", values)
    meta = tmp_path / "model.ckpt-7.meta"
    meta.write_bytes(b"no protocol buffer")
    assert official_graph.projection_layers_read(prefix) is None
    content = meta_graph_pb2.MetaGraphDef()
    fill(content.graph_def.node, 1)
    meta.write_bytes(content.SerializeToString())
    assert official_graph.projection_layers_read(prefix) == 1
    monkeypatch.setattr(official_graph, "MAX_BYTES", 100)
    assert official_graph.projection_layers_read(prefix) is None
    meta.unlink()
    meta.mkdir()
    assert official_graph.projection_layers_read(prefix) is None
