"""The object graph of a TensorFlow checkpoint: which of its variables belong to the model."""

from tensorflow.core.protobuf import trackable_object_graph_pb2

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
MAX_NODES = 100_000  # a ResNet-200 has some thousands


def model_keys(reader) -> dict[str, str]:
    """Finds {our path: key in the file} of the model's variables.

    A SavedModel stores a variable under the shortest of its names, so the object graph is walked
    from the attribute `model` down, which is the same in checkpoints and SavedModels.

    Raises:
      ValueError, RuntimeError, IndexError, DecodeError or tf.errors.OpError: the graph is spoilt.
    """
    shape = reader.get_variable_to_shape_map().get(OBJECT_GRAPH)
    if shape is None:
        return {}
    if shape:
        raise ValueError(f"its object graph has shape {shape}")
    graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(
        reader.get_tensor(OBJECT_GRAPH)
    )
    keys = {}
    visited = 0

    def walk(node_id: int, path: str):
        nonlocal visited
        visited += 1
        if visited > MAX_NODES:
            raise ValueError("its object graph runs in circles")
        node = graph.nodes[node_id]
        for attribute in node.attributes:
            keys[path] = attribute.checkpoint_key
        for child in node.children:
            walk(child.node_id, f"{path}/{child.local_name}" if path else child.local_name)

    for child in graph.nodes[0].children:
        if child.local_name == "model":
            walk(child.node_id, "")
    return keys
