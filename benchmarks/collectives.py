"""Counts the collective operations of an executed step and the bytes that a ring sends for them."""

import dataclasses
from collections.abc import Callable, Iterable

import tensorflow as tf

SUM, GATHER = "sum", "gather"
_KINDS = {"CollectiveReduceV2": SUM, "CollectiveGatherV2": GATHER}


@dataclasses.dataclass(frozen=True)
class Collective:
    """Describes one all-reduce (SUM) or all-gather (GATHER).

    Attributes:
      kind: SUM or GATHER.
      bytes: size of the tensor that each replica contributes.
    """

    kind: str
    bytes: int

    def sent(self, replicas: int) -> float:
        """Returns the bytes that each replica sends in a ring, which is optimal in bandwidth."""
        if self.kind == SUM:  # reduce-scatter, then all-gather; a hop is 1/replicas of it
            return 2 * (replicas - 1) / replicas * self.bytes
        return (replicas - 1) * self.bytes


def total_bytes(collectives: Iterable[Collective]) -> int:
    """Adds up the bytes that a replica contributes to all collectives."""
    return sum(c.bytes for c in collectives)


def total_sent(collectives: Iterable[Collective], replicas: int) -> float:
    """Adds up the bytes that a replica sends in all collectives."""
    return sum(c.sent(replicas) for c in collectives)


def count(strategy: tf.distribute.Strategy, step: Callable, *args) -> list[Collective]:
    """Runs step(*args) once on every replica and returns the first replica's collectives.

    The traced graph names them. It does not know all of their shapes (TensorFlow's all-gather pads
    its input to the longest), so the sizes come from the execution.

    Args:
      strategy: MirroredStrategy whose devices communicate by collective operations.
      step: function that runs on each replica.
      *args: per-replica arguments of `step`.
    """
    operations_found: list[tf.Operation] = []

    @tf.function
    def run():
        # Returning the results keeps TensorFlow from optimizing away what they need.
        results = strategy.run(step, args=args)
        operations_found[:] = operations(tf.compat.v1.get_default_graph())
        return results, [tf.size(op.inputs[0]) for op in operations_found]

    _, sizes = run()
    return [
        Collective(_KINDS[op.type], int(size) * op.inputs[0].dtype.size)
        for op, size in zip(operations_found, sizes, strict=True)
        if op.device == operations_found[0].device
    ]


def operations(graph: tf.Graph) -> list[tf.Operation]:
    """Returns the collective operations of a graph.

    Raises:
      ValueError: the graph has collectives of another kind, or inside functions that it calls.
    """
    collectives = [op for op in graph.get_operations() if op.type.startswith("Collective")]
    unknown = {op.type for op in collectives} - set(_KINDS)
    for function in graph.as_graph_def().library.function:  # e.g. the body of a loop
        unknown |= {node.op for node in function.node_def if node.op.startswith("Collective")}
    if unknown:
        raise ValueError(f"cannot count {', '.join(sorted(unknown))}")
    return collectives
