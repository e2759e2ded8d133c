"""What a TPU accepts, checked in the graph of a function and in the HLO that XLA makes of it.

A TPU compiles with TensorFlow's bridge to XLA (tf2xla). The bridge registers one list of ops for
all backends, less what a backend leaves out. A TPU leaves out nothing and takes the types below
(TensorFlow, core/tpu/tpu_defs.h and core/tpu/tpu_node_device_util.cc). This build has the backends
CPU and GPU. An op that both have is therefore in the list.
"""

import re

import tensorflow as tf
from tensorflow.python.framework import kernels

HOST_OPS = re.compile("PyFunc|Host|Infeed|Outfeed|Send|Recv|Print|Summary|Iterator|File|Queue")
# The compiler removes these, or compiles the functions that they call.
STRUCTURE = {"Placeholder", "PartitionedCall", "StatefulPartitionedCall", "If", "StatelessIf"}
# Not float64, which a TPU only emulates, nor strings. Variables are resources, and the tensors that
# a loop stores in an array are variants, as in a Keras LSTM, which TPUs run.
TYPES = {
    *(tf.bool, tf.int8, tf.uint8, tf.int16, tf.uint16, tf.int32, tf.uint32, tf.int64, tf.uint64),
    *(tf.bfloat16, tf.float16, tf.float32, tf.resource, tf.variant),
}
# Calls out of the program, and random numbers that no seed decides.
FORBIDDEN_OPCODES = {"custom-call", "infeed", "outfeed", "send", "recv", "rng"}


def compiled_ops() -> set[str]:
    """Names of the ops that tf2xla compiles for every backend of this build."""
    tf.function(lambda x: x + 1, jit_compile=True)(tf.ones(1))  # registers the kernels
    found = kernels.get_all_registered_kernels().kernel
    backends = [
        {kernel.op for kernel in found if kernel.device_type == name}
        for name in ("XLA_CPU_JIT", "XLA_GPU_JIT")
    ]
    return set.intersection(*backends)


def graph_faults(graph: tf.Graph) -> set[str]:
    """Ops and types of a graph, and of the functions that it calls, that a TPU refuses."""
    faults, ops = set(), compiled_ops() | STRUCTURE
    definition = graph.as_graph_def()
    for nodes in (definition.node, *(body.node_def for body in definition.library.function)):
        for node in nodes:
            if node.op not in ops or HOST_OPS.search(node.op):
                faults.add(node.op)
            types = [value.type for value in node.attr.values() if value.type]
            for types_of_list in (value.list.type for value in node.attr.values()):
                types += types_of_list
            faults |= {
                f"{node.op} of {tf.as_dtype(number).name}"
                for number in types
                if tf.as_dtype(number) not in TYPES
            }
    return faults


def hlo_faults(hlo: str) -> set[str]:
    """Opcodes, types and shapes of an HLO program that a TPU refuses or no seed decides."""
    opcodes = set(re.findall(r"^ *(?:ROOT )?\S+ = .*? ([a-z][\w-]*)\(", hlo, re.MULTILINE))
    assert {"add", "reduce", "dot"} <= opcodes and "f32[" in hlo
    faults = opcodes & FORBIDDEN_OPCODES
    generators = set(re.findall(r" rng-bit-generator\(.*algorithm=(\w+)", hlo))
    if "rng-bit-generator" in opcodes:
        faults |= (generators or {"a generator without a name"}) - {"rng_philox"}
    faults |= set(re.findall(r"\b(?:f64|c128)\[", hlo))
    return faults | set(re.findall(r"\w+\[[^]]*<=[^]]*\]", hlo))  # f32[<=8,32] is dynamic


def assert_stays_on_the_device(function, *arguments, types: set = frozenset()):
    """A TPU takes all ops of the traced graph, and the HLO is static and calls nothing outside."""
    faults = graph_faults(function.get_concrete_function(*arguments).graph)
    assert faults <= set(types), faults
    # Before XLA's optimizations for the CPU, which may call its libraries.
    hlo = function.experimental_get_compiler_ir(*arguments)(stage="hlo")
    assert not hlo_faults(hlo)
