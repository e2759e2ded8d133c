"""What the replicas exchange in a training step: the closed formulas of docs/scaling.md.

n is the batch of a replica, d the width of the projection head's output, R the number of replicas.
"""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import network
from benchmarks.collectives import GATHER, SUM, Collective, total_sent
from tf_simclr.losses.nt_xent import automatic_block_rows

FLOAT = 4  # bytes: hiddens, statistics and gradients are exchanged in float32
SHAPE = 8  # bytes: TensorFlow gathers the shape (n, d) as int32 before the tensor itself
VIEWS = 2

GLOBAL_BATCH_SIZE, DIM = 4096, 128
REPLICAS = (8, 128, 2048)
NETWORKS: dict[str, dict[str, Any]] = {
    "ResNet-50 (1x)": dict(resnet_depth=50),
    "ResNet-152 (3x+SK)": dict(resnet_depth=152, width_multiplier=3, sk_ratio=0.0625),
}


def gathered_forward(n: int, d: int, replicas: int) -> list[Collective]:
    """Our all-gather of the hiddens of both views."""
    return [Collective(GATHER, SHAPE), Collective(GATHER, VIEWS * n * d * FLOAT)]


def gathered_backward(n: int, d: int, replicas: int) -> list[Collective]:
    """The gradient flows through the gathered hiddens of all replicas: a sum either way."""
    return [Collective(SUM, VIEWS * replicas * n * d * FLOAT)]


def blocks_forward(n: int, d: int, replicas: int) -> list[Collective]:
    """As gathered_forward, and two log-sum-exps an image."""
    logs = [Collective(GATHER, SHAPE), Collective(GATHER, VIEWS * n * FLOAT)]
    return gathered_forward(n, d, replicas) + logs


def blocks_backward(n: int, d: int, replicas: int) -> list[Collective]:
    """One number an image, from which each replica works out its own gradient."""
    return [Collective(GATHER, SHAPE), Collective(GATHER, n * FLOAT)]


def padded_forward(n: int, d: int, replicas: int) -> list[Collective]:
    """The official sum of each view's hiddens, padded with zeros to those of all replicas."""
    return VIEWS * [Collective(SUM, replicas * n * d * FLOAT)]


padded_backward = padded_forward
DENSE = gathered_forward, gathered_backward
BLOCKS = blocks_forward, blocks_backward
OFFICIAL = padded_forward, padded_backward


def ours(n: int, replicas: int) -> Sequence[Callable]:
    """DENSE or BLOCKS, whichever --loss_block_rows=0 takes."""
    return BLOCKS if automatic_block_rows(n * replicas) < n else DENSE


def hiddens(n: int, d: int, replicas: int, scheme: Sequence[Callable]) -> list[Collective]:
    """Forward and backward, of DENSE, BLOCKS or OFFICIAL."""
    return [collective for direction in scheme for collective in direction(n, d, replicas)]


def batch_norm_forward(bn_channels: Sequence[int]) -> list[Collective]:
    """Of each layer the sums of values, of squares and of ones (the count), a channel each."""
    return [Collective(SUM, c * FLOAT) for c in bn_channels for _ in range(3)]


def batch_norm_backward(bn_channels: Sequence[int]) -> list[Collective]:
    """Of each layer the gradients of the first two; the count has none."""
    return [Collective(SUM, c * FLOAT) for c in bn_channels for _ in range(2)]


def labels() -> list[Collective]:
    """How many images of the batch have a label."""
    return [Collective(SUM, FLOAT)]


def gradients(parameters: int) -> list[Collective]:
    """One sum: TensorFlow packs a list of tensors into one."""
    return [Collective(SUM, parameters * FLOAT)]


def step(
    model: network.Network, n: int, d: int, replicas: int, *, scheme: Sequence[Callable]
) -> list[Collective]:
    """All collectives of a step of pretraining with a linear classifier on the side.

    Args:
      scheme: DENSE, BLOCKS or OFFICIAL: what gathers the hiddens.
    """
    return [
        *labels(),
        *hiddens(n, d, replicas, scheme),
        *batch_norm_forward(model.bn_channels),
        *batch_norm_backward(model.bn_channels),
        *gradients(model.parameters),
    ]


def logits_bytes(n: int, replicas: int) -> int:
    """Of one replica's logits: for each view, (n, 2nR) of float32."""
    return VIEWS * n * 2 * n * replicas * FLOAT


def table() -> str:
    """Markdown: predicted megabytes that each replica sends in a step, by the ring algorithms."""
    lines = [
        "| network | R | n | hiddens | hiddens, padded sum | BN statistics | gradients "
        "| all | all, padded sum | collectives | logits of the dense loss |",
        "|---|" + "---:|" * 10,
    ]
    for name, settings in NETWORKS.items():
        model = network.simclr(proj_out_dim=DIM, **settings)
        bn = batch_norm_forward(model.bn_channels) + batch_norm_backward(model.bn_channels)
        for replicas in REPLICAS:
            sizes = (GLOBAL_BATCH_SIZE // replicas, DIM, replicas)
            scheme = ours(sizes[0], replicas)
            whole = step(model, *sizes, scheme=scheme)
            sent = [
                hiddens(*sizes, scheme),
                hiddens(*sizes, OFFICIAL),
                bn,
                gradients(model.parameters),
                whole,
                step(model, *sizes, scheme=OFFICIAL),
            ]
            cells = [f"{total_sent(collectives, replicas) / 1e6:,.2f}" for collectives in sent]
            logits = f"{logits_bytes(sizes[0], replicas) / 1e6:,.2f}"
            row = [name, str(replicas), str(sizes[0]), *cells, str(len(whole)), logits]
            lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)
