"""Finds in an official graph which layer the supervised head reads. No variable shows it.

A network that was fine-tuned from a layer of the projection head has the same variables as one that
was fine-tuned from the backbone, but its head reads another layer (--ft_proj_selector). The graph
beside the variables tells: TF1 writes it to PREFIX.meta, and a SavedModel has it in saved_model.pb.
The graph is only parsed. Nothing in it runs.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

MAX_BYTES = 2**28  # the file of a ResNet-152 takes a tenth of it
_HEAD = "head_supervised/"


def projection_layers_read(prefix: str) -> int | None:
    """Counts the layers of the projection head between the backbone and the supervised head.

    Args:
      prefix: the prefix of a checkpoint, or of the variables of a SavedModel.

    Returns:
      0 if the head reads the backbone, None if no graph is there or none tells.
    """
    try:
        graphs = list(_graphs(prefix))
    except (DecodeError, OSError, tf.errors.OpError):
        return None  # the weights can be used without the graph
    counts = {
        count
        for graph in graphs
        for nodes in (graph.node, *(function.node_def for function in graph.library.function))
        if (count := _dense_layers_before_head(nodes)) is not None
    }
    return counts.pop() if len(counts) == 1 else None


def _graphs(prefix: str) -> Iterator[Any]:
    saved_model = os.path.join(os.path.dirname(os.path.dirname(prefix)), "saved_model.pb")
    if content := _read(f"{prefix}.meta"):
        yield meta_graph_pb2.MetaGraphDef.FromString(content).graph_def
    elif content := _read(saved_model):
        for meta_graph in saved_model_pb2.SavedModel.FromString(content).meta_graphs:
            yield meta_graph.graph_def


def _read(path: str) -> bytes | None:
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    return content if len(content) <= MAX_BYTES else None


def _dense_layers_before_head(nodes: Iterable[Any]) -> int | None:
    """Counts the matrix products on the way from the global average to the supervised head."""
    by_name = {node.name: node for node in nodes}
    heads = [n for n in by_name.values() if n.op == "MatMul" and n.name.startswith(_HEAD)]
    if len(heads) != 1:
        return None
    node, count = heads[0], 0
    for _ in range(len(by_name)):  # a damaged graph may have a circle
        if node.op == "Mean":  # the average over the pixels
            return count
        # Of a product, a normalization, and an activation, the first input is the features.
        name = node.input[0].partition(":")[0] if node.input else ""
        if name not in by_name:
            return None
        node = by_name[name]
        count += node.op == "MatMul"
    return None
