"""Collective operations: those of an executed step, and the bytes that a ring sends for them."""

import dataclasses
from collections.abc import Callable, Iterable

import tensorflow as tf

SUM, GATHER = "sum", "gather"
_KINDS = {"CollectiveReduceV2": SUM, "CollectiveGatherV2": GATHER}


@dataclasses.dataclass(frozen=True)
class Collective:
    """One all-reduce (SUM) or all-gather (GATHER).

    Attributes:
      kind: SUM or GATHER.
      bytes: of the tensor that each replica puts in.
    """

    kind: str
    bytes: int

    def sent(self, replicas: int) -> float:
        """Bytes that each replica sends by the ring algorithms, which are optimal in bandwidth."""
        if self.kind == SUM:  # reduce-scatter, then all-gather, in 1/replicas of the tensor a hop
            return 2 * (replicas - 1) / replicas * self.bytes
        return (replicas - 1) * self.bytes


def total_bytes(collectives: Iterable[Collective]) -> int:
    """What a replica puts in all of them."""
    return sum(c.bytes for c in collectives)


def total_sent(collectives: Iterable[Collective], replicas: int) -> float:
    """What a replica sends in all of them, in bytes."""
    return sum(c.sent(replicas) for c in collectives)


def count(strategy: tf.distribute.Strategy, step: Callable, *args) -> list[Collective]:
    """Runs step(*args) once on every replica and returns the first replica's collectives.

    They are found in the traced graph; as not all of their shapes are known there (TensorFlow's
    all-gather pads its input to the longest), the sizes come from the execution.

    Args:
      strategy: MirroredStrategy whose devices communicate by collective operations.
      step: runs on each replica.
      *args: its arguments, values of each replica.
    """
    found = []

    @tf.function
    def run():
        # The results are returned, too: nothing that they need may be optimised away.
        results = strategy.run(step, args=args)
        found[:] = operations(tf.compat.v1.get_default_graph())
        return results, [tf.size(op.inputs[0]) for op in found]

    _, sizes = run()
    return [
        Collective(_KINDS[op.type], int(size) * op.inputs[0].dtype.size)
        for op, size in zip(found, sizes, strict=True)
        if op.device == found[0].device
    ]


def operations(graph: tf.Graph) -> list[tf.Operation]:
    """The collective operations of a graph.

    Raises:
      ValueError: there are some of another kind, or in functions that the graph calls.
    """
    found = [op for op in graph.get_operations() if op.type.startswith("Collective")]
    unknown = {op.type for op in found} - set(_KINDS)
    for function in graph.as_graph_def().library.function:  # e.g. the body of a loop
        unknown |= {node.op for node in function.node_def if node.op.startswith("Collective")}
    if unknown:
        raise ValueError(f"cannot count {', '.join(sorted(unknown))}")
    return found
