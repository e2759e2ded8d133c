"""Measures how much of a step is convolutions and matrix products, and how fast they can be."""

import glob
import math
import os
import re
import tempfile
import time
from collections.abc import Callable

import tensorflow as tf

MATRIX = 2048  # rows and columns of the matrices whose product gives the machine's peak
_OP_EVENT = re.compile(r"[^:]+:(?P<type>\w+)")
_MATRIX_OPS = re.compile("Conv2D|MatMul")
_CALLS = re.compile("PartitionedCall|While|If|Case")  # the ops inside have their own events


def matrix_share(step: Callable) -> float:
    """Returns the share of a call's op time that convolutions and matrix products take.

    The share is NaN if single ops cannot be seen, as in code compiled by XLA.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=2, python_tracer_level=0)
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder, options):
            step()
        (path,) = glob.glob(os.path.join(folder, "plugins", "profile", "*", "*.xplane.pb"))
        with open(path, "rb") as file:
            space = xplane_pb2.XSpace.FromString(file.read())
    in_matrix_ops = in_ops = 0
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            match = _OP_EVENT.fullmatch(plane.event_metadata[event.metadata_id].name)
            if not match or _CALLS.search(match["type"]):
                continue
            in_ops += event.duration_ps
            if _MATRIX_OPS.search(match["type"]):
                in_matrix_ops += event.duration_ps
    return in_matrix_ops / in_ops if in_matrix_ops else float("nan")


def matrix_flops(graph: tf.Graph) -> int:
    """Counts the multiplications and additions of a graph's convolutions and matrix products.

    Padding pixels are counted as well. Operations that nothing needs are not counted, because
    TensorFlow removes them: the gradient of the images is one.
    """
    flops = 0
    for op in _executed(graph):
        if op.type in ("Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter"):
            # The kernel and the smaller side of the layer determine the count.
            kernel, output = {
                "Conv2D": lambda op: (op.inputs[1].shape, op.outputs[0].shape),
                "Conv2DBackpropInput": lambda op: (op.inputs[1].shape, op.inputs[2].shape),
                "Conv2DBackpropFilter": lambda op: (op.outputs[0].shape, op.inputs[2].shape),
            }[op.type](op)
            height, width, channels, _ = kernel
            flops += 2 * math.prod(output) * height * width * channels
        elif op.type == "MatMul":
            rows, inner = op.inputs[0].shape
            if op.get_attr("transpose_a"):
                rows, inner = inner, rows
            flops += 2 * rows * inner * op.outputs[0].shape[1]
    return flops


def _executed(graph: tf.Graph) -> set[tf.Operation]:
    """Returns the operations that the outputs and the updates of variables of a function need."""
    needed: set[tf.Operation] = set()
    waiting = [tensor.op for tensor in graph.outputs]
    waiting += [op for op in graph.get_operations() if op.op_def.is_stateful]
    while waiting:
        op = waiting.pop()
        if op not in needed:
            needed.add(op)
            waiting += [*(tensor.op for tensor in op.inputs), *op.control_inputs]
    return needed


def matmul_peak(dtype: str) -> float:
    """Measures the FLOP/s of a large matrix product: the best of ten calls."""
    matrix = tf.cast(tf.random.stateless_uniform((MATRIX, MATRIX), seed=[1, 2]), dtype)
    product = tf.function(lambda a: tf.reduce_sum(a @ a, axis=0))
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        product(matrix).numpy()
        seconds.append(time.perf_counter() - began)
    return 2 * MATRIX**3 / min(seconds)
