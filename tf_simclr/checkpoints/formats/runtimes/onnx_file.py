"""Writes and opens ONNX files: inference as one graph of standard operations."""

import json
import os
from typing import Any

from tf_simclr.checkpoints import about_file
from tf_simclr.checkpoints.formats.optional import require
from tf_simclr.checkpoints.formats.runtimes import inference, runner
from tf_simclr.checkpoints.formats.runtimes.runner import Runner
from tf_simclr.checkpoints.formats.runtimes.sessions import Unusable
from tf_simclr.models.simclr import SimCLR

KIND, NAME, EXTENSION = "onnx", "an ONNX model", ".onnx"
# tf2onnx's default. ONNX Runtime reads it since version 1.10.
OPSET = 15
ABOUT_KEY = "about.json"  # of the model's metadata
STANDARD_DOMAINS = ("", "ai.onnx")


def matches(path: str) -> bool:
    """Returns whether a path has the extension of an ONNX file. The format has no other mark."""
    return path.endswith(EXTENSION)


def write(model: SimCLR, path: str, *, about: dict[str, Any] | None = None) -> None:
    """Writes an ONNX file.

    Its input is `images`, float32 (batch, height, width, 3) in [0, 1], of any sizes. Its outputs
    are final_avg_pool, proj_head_output and logits_sup, if the model has them. Inside, the layout
    is NCHW.

    Args:
      model: the model, in float32.
      path: path of the file.
      about: content of about.json (`about_file.content`), which becomes the model's metadata.

    Raises:
      ConfigError: a package is missing, or the weights take more than 2 GiB.
    """
    tf2onnx = require("tf2onnx", reason="writing an ONNX file")
    inference.check_size(model, path, bytes_per_value=4)
    function, images = inference.function(model, None)
    proto, _ = tf2onnx.convert.from_function(function, input_signature=[images], opset=OPSET)
    _name_dimensions(proto)
    proto.doc_string = "SimCLR. Images are RGB in [0, 1], float32 (batch, height, width, 3)."
    if about is not None:
        proto.metadata_props.add(key=ABOUT_KEY, value=json.dumps(about))
    # tf2onnx leaves an operation that it does not know as it is.
    require("onnx.checker", reason="writing an ONNX file").check_model(proto)
    inference.write_bytes(path, proto.SerializeToString(deterministic=True))


def _name_dimensions(proto: Any) -> None:
    """Gives the dimensions of any size their names. tf2onnx counts them."""
    for value, names in [
        *((image, ("batch", "height", "width", "channel")) for image in proto.graph.input),
        *((endpoint, ("batch", "feature")) for endpoint in proto.graph.output),
    ]:
        for dimension, name in zip(value.type.tensor_type.shape.dim, names, strict=True):
            if not dimension.dim_value:
                dimension.dim_param = name


def load(path: str) -> Runner:
    """Opens an ONNX file for inference. The file is untrusted.

    Raises:
      ConfigError: a package is missing, or the file is damaged, too large, reads other files, has
        operations of its own, or has other inputs and outputs than `write` gives.
    """
    require("onnxruntime", reason=f"opening {path!r}")
    onnx = require("onnx", reason=f"opening {path!r}")
    with runner.errors_in_one_line(path, NAME):
        content = runner.read(path)
        proto = onnx.ModelProto.FromString(content)
        _check(proto)
        about = about_file.About()
        for entry in proto.metadata_props:
            if entry.key == ABOUT_KEY:
                about = about_file.parse(entry.value)
        return runner.open_content(KIND, content, about, directory=os.path.dirname(path))


def _check(proto: Any) -> None:
    """Checks that a model is one graph of standard operations, without other files.

    Control flow is refused, because a loop may have no end.

    Raises:
      Unusable: it is not.
    """
    if not proto.graph.node:
        raise Unusable("it has no graph")
    if proto.functions or proto.training_info:
        raise Unusable("it has functions or training graphs, and an export has neither")
    graph = proto.graph
    tensors = list(graph.initializer)
    for sparse in graph.sparse_initializer:
        tensors += [sparse.values, sparse.indices]
    for node in graph.node:
        if node.domain not in STANDARD_DOMAINS:
            raise Unusable(f"{node.op_type} of {node.domain} is not a standard operation")
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                raise Unusable(f"it has control flow ({node.op_type}), and an export has none")
            tensors += [attribute.t, *attribute.tensors]
            for sparse in [attribute.sparse_tensor, *attribute.sparse_tensors]:
                tensors += [sparse.values, sparse.indices]
    for tensor in tensors:
        if tensor.data_location or tensor.external_data:
            raise Unusable("its weights are in other files: save it as one file")
