"""Finds variables in TF2 checkpoints and SavedModels by TensorFlow's object graph.

The key of a variable in our checkpoints is its path, such as model/base_model/stem/conv/kernel,
followed by SUFFIX. A SavedModel stores it under the shortest of its names, so there the key is not
known in advance. Both have an object graph: a tree of attributes whose leaves name the keys. In
both the model is the attribute `model` of the root, in our files and in the official ones, so one
walk from there reads each of them. The graph is only data: reading it runs nothing.
"""

from collections.abc import Mapping
from typing import Any

from tensorflow.core.protobuf import trackable_object_graph_pb2

from tf_simclr import compat

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"  # the key of the graph itself
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"  # TensorFlow appends this to a variable's path
MAX_NODES = 100_000  # a ResNet-200 has a few thousand
# Keras stores these for each layer: every variable below it again, in lists without names.
_ALIASES = ("variables", "trainable_variables", "non_trainable_variables", "keras_api")


def variable_tree(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Nests variables by the parts of their paths, as tf.train.Checkpoint stores them.

    Args:
      variables: {"a/b/c": variable}.

    Returns:
      {"a": {"b": {"c": tf.Variable}}}.
    """
    tree: dict[str, Any] = {}
    for path, variable in variables.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = compat.tf_variable(variable)
    return tree


def model_keys(reader: Any) -> dict[str, str]:
    """Finds the model's variables in an object graph.

    Args:
      reader: the reader that tf.train.load_checkpoint returns.

    Returns:
      {path below the model: key in the file}, empty if the file has no object graph. In our files,
      the paths are ours.

    Raises:
      ValueError, RuntimeError, IndexError, DecodeError or tf.errors.OpError: the graph is damaged.
    """
    shape = reader.get_variable_to_shape_map().get(OBJECT_GRAPH)
    if shape is None:
        return {}
    if shape:
        raise ValueError(f"its object graph has shape {shape}")
    graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(
        reader.get_tensor(OBJECT_GRAPH)
    )
    keys: dict[str, str] = {}
    num_visited = 0

    def visit(node_id: int, path: str) -> None:
        nonlocal num_visited
        num_visited += 1
        if num_visited > MAX_NODES:
            raise ValueError("its object graph has a cycle or too many nodes")
        node = graph.nodes[node_id]
        for attribute in node.attributes:
            keys[path] = attribute.checkpoint_key
        for child in node.children:
            if child.local_name in _ALIASES:
                continue
            visit(child.node_id, f"{path}/{child.local_name}" if path else child.local_name)

    for child in graph.nodes[0].children:
        if child.local_name == "model":
            visit(child.node_id, "")
    return keys
