"""ONNX models that are not ours, or that somebody has changed."""

import numpy as np


def changed(onnx, content: bytes) -> dict[str, bytes]:
    """{what is wrong: bytes of a model}, made from those of a good one with endpoint vectors."""
    return {name: make(onnx, content) for name, make in MAKERS.items()}


def _edited(edit):
    def make(onnx, content):
        proto = onnx.ModelProto.FromString(content)
        edit(onnx, proto)
        return proto.SerializeToString()

    return make


def _external(onnx, proto):
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def _external_constant(onnx, proto):
    tensor = onnx.TensorProto(name="x", data_type=1, dims=[1], data_location=1)
    tensor.external_data.add(key="location", value="../../secret")
    proto.graph.node.append(onnx.helper.make_node("Constant", [], ["secret"], value=tensor))


def _custom_operation(onnx, proto):
    proto.graph.node[1].domain = "com.example"
    proto.opset_import.add(domain="com.example", version=1)


def _unknown_operation(onnx, proto):
    proto.graph.node[1].op_type = "ReadFile"


def _loop(onnx, proto):
    body = onnx.helper.make_graph([], "body", [], [])
    proto.graph.node.append(onnx.helper.make_node("Loop", [], ["x"], body=body))


def _function(onnx, proto):
    proto.functions.add(name="f", domain="")


def _bomb(onnx, proto):
    """Adds 100 TB of zeros, times zero, to the images."""
    shape = onnx.numpy_helper.from_array(np.array([5000, 100_000, 50_000]), "bomb_shape")
    proto.graph.initializer.append(shape)
    nodes = [
        onnx.helper.make_node("ConstantOfShape", ["bomb_shape"], ["bomb"]),
        onnx.helper.make_node("ReduceSum", ["bomb"], ["bomb_sum"], keepdims=0),
        onnx.helper.make_node("Add", ["images", "bomb_sum"], ["bombed"]),
    ]
    _insert(proto, nodes)


def _insert(proto, nodes):
    """Puts nodes between the images and the network."""
    (result,) = nodes[-1].output
    for node in proto.graph.node:
        node.input[:] = [result if name == "images" else name for name in node.input]
    kept = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes + kept)


def _input_name(onnx, proto):
    for node in proto.graph.node:
        node.input[:] = ["x" if name == "images" else name for name in node.input]
    proto.graph.input[0].name = "x"


def _input_type(onnx, proto):
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    _insert(proto, [onnx.helper.make_node("Cast", ["images"], ["cast"], to=onnx.TensorProto.FLOAT)])


def _fixed_batch(onnx, proto):
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def _four_channels(onnx, proto):
    proto.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 4


def _no_endpoint(onnx, proto):
    names = {output.name: f"my_{output.name}" for output in proto.graph.output}
    for output in proto.graph.output:
        output.name = names[output.name]
    for node in proto.graph.node:
        node.output[:] = [names.get(name, name) for name in node.output]
        node.input[:] = [names.get(name, name) for name in node.input]


def _scalar_endpoint(onnx, proto):
    """Its features are the maximum of all images."""
    for node in proto.graph.node:
        node.output[:] = ["kept" if n == "final_avg_pool" else n for n in node.output]
        node.input[:] = ["kept" if n == "final_avg_pool" else n for n in node.input]
    node = onnx.helper.make_node("ReduceMax", ["kept"], ["final_avg_pool"], keepdims=0)
    proto.graph.node.append(node)
    for output in proto.graph.output:
        if output.name == "final_avg_pool":
            del output.type.tensor_type.shape.dim[:]


def _weight_shape(onnx, proto):
    proto.graph.initializer[0].dims[0] += 1


def _no_graph(onnx, proto):
    proto.ClearField("graph")


def _metadata(value):
    def edit(onnx, proto):
        proto.metadata_props.add(key="about.json", value=value)

    return edit


MAKERS = {
    "empty": lambda onnx, content: b"",
    "text": lambda onnx, content: b"this is no model",
    "random": lambda onnx, content: np.random.default_rng(0).bytes(10_000),
    "half": lambda onnx, content: content[: len(content) // 2],
    "external data": _edited(_external),
    "external constant": _edited(_external_constant),
    "custom operation": _edited(_custom_operation),
    "unknown operation": _edited(_unknown_operation),
    "loop": _edited(_loop),
    "function": _edited(_function),
    "bomb": _edited(_bomb),
    "name of the input": _edited(_input_name),
    "type of the input": _edited(_input_type),
    "fixed batch": _edited(_fixed_batch),
    "four channels": _edited(_four_channels),
    "no endpoint": _edited(_no_endpoint),
    "scalar endpoint": _edited(_scalar_endpoint),
    "shape of a weight": _edited(_weight_shape),
    "no graph": _edited(_no_graph),
    "metadata is no JSON": _edited(_metadata("{")),
    "metadata is deep": _edited(_metadata("[" * 100_000)),
    "metadata of a size": _edited(_metadata('{"image_size": 1000000000}')),
    "metadata of a type": _edited(_metadata('{"class_names": {"a": 1}}')),
}


def mutations(content: bytes, number: int, seed: int = 0) -> list[bytes]:
    """Copies of a file: every second one is cut, the others have wrong bytes at both ends."""
    rng = np.random.default_rng(seed)
    copies = []
    for i in range(number):
        copy = bytearray(content)
        if i % 2:
            copy = copy[: rng.integers(len(copy))]
        else:
            for end in (1, -1):
                for _ in range(4):
                    copy[end * int(rng.integers(1, 3000))] = rng.integers(256)
        copies.append(bytes(copy))
    return copies
