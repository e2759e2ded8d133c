"""Computes what replicas exchange in a training step: the closed formulas of docs/scaling.md.

n is the batch size of a replica, d the width of the projections, R the number of replicas.
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
    """Lists our all-gather of the hiddens of both views."""
    return [Collective(GATHER, SHAPE), Collective(GATHER, VIEWS * n * d * FLOAT)]


def gathered_backward(n: int, d: int, replicas: int) -> list[Collective]:
    """Lists the sum of the gradients with respect to the gathered hiddens of all replicas."""
    return [Collective(SUM, VIEWS * replicas * n * d * FLOAT)]


def blocks_forward(n: int, d: int, replicas: int) -> list[Collective]:
    """Lists gathered_forward and the all-gather of two log-sum-exps per image."""
    logs = [Collective(GATHER, SHAPE), Collective(GATHER, VIEWS * n * FLOAT)]
    return gathered_forward(n, d, replicas) + logs


def blocks_backward(n: int, d: int, replicas: int) -> list[Collective]:
    """Lists the all-gather of one number per image, which gives each replica its gradient."""
    return [Collective(GATHER, SHAPE), Collective(GATHER, n * FLOAT)]


def padded_forward(n: int, d: int, replicas: int) -> list[Collective]:
    """Lists the official sums: each view's hiddens, padded with zeros to the global batch."""
    return VIEWS * [Collective(SUM, replicas * n * d * FLOAT)]


padded_backward = padded_forward
DENSE = gathered_forward, gathered_backward
BLOCKS = blocks_forward, blocks_backward
OFFICIAL = padded_forward, padded_backward


def ours(n: int, replicas: int) -> Sequence[Callable]:
    """Returns DENSE or BLOCKS, as --loss_block_rows=0 would choose."""
    return BLOCKS if automatic_block_rows(n * replicas) < n else DENSE


def hiddens(n: int, d: int, replicas: int, scheme: Sequence[Callable]) -> list[Collective]:
    """Lists the forward and backward collectives of DENSE, BLOCKS or OFFICIAL."""
    return [collective for direction in scheme for collective in direction(n, d, replicas)]


def batch_norm_forward(bn_channels: Sequence[int]) -> list[Collective]:
    """Lists, for each layer, the sums of values, squares and ones (the count) per channel."""
    return [Collective(SUM, c * FLOAT) for c in bn_channels for _ in range(3)]


def batch_norm_backward(bn_channels: Sequence[int]) -> list[Collective]:
    """Lists, for each layer, the gradients of the first two sums; the count has none."""
    return [Collective(SUM, c * FLOAT) for c in bn_channels for _ in range(2)]


def batch_norm(bn_channels: Sequence[int]) -> list[Collective]:
    """Lists the forward and backward collectives of all layers."""
    return batch_norm_forward(bn_channels) + batch_norm_backward(bn_channels)


def labels() -> list[Collective]:
    """Lists the sum that counts the labeled images of the batch."""
    return [Collective(SUM, FLOAT)]


def gradients(parameters: int) -> list[Collective]:
    """Lists the single sum into which TensorFlow packs all gradients."""
    return [Collective(SUM, parameters * FLOAT)]


def step(
    model: network.Network, n: int, d: int, replicas: int, *, scheme: Sequence[Callable]
) -> list[Collective]:
    """Lists all collectives of a pretraining step with a linear classifier.

    Args:
      scheme: how the hiddens are gathered: DENSE, BLOCKS or OFFICIAL.
    """
    return [
        *labels(),
        *hiddens(n, d, replicas, scheme),
        *batch_norm(model.bn_channels),
        *gradients(model.parameters),
    ]


def logits_bytes(n: int, replicas: int) -> int:
    """Returns the bytes of one replica's logits: (n, 2nR) in float32 for each view."""
    return VIEWS * n * 2 * n * replicas * FLOAT


def table() -> str:
    """Formats a Markdown table of the megabytes that each replica sends per step in a ring."""
    lines = [
        "| network | R | n | hiddens | hiddens, padded sum | BN statistics | gradients "
        "| all | all, padded sum | collectives | logits of the dense loss |",
        "|---|" + "---:|" * 10,
    ]
    for name, settings in NETWORKS.items():
        model = network.simclr(proj_out_dim=DIM, **settings)
        bn = batch_norm(model.bn_channels)
        for replicas in REPLICAS:
            sizes = (GLOBAL_BATCH_SIZE // replicas, DIM, replicas)
            scheme = ours(sizes[0], replicas)
            all_collectives = step(model, *sizes, scheme=scheme)
            sent = [
                hiddens(*sizes, scheme),
                hiddens(*sizes, OFFICIAL),
                bn,
                gradients(model.parameters),
                all_collectives,
                step(model, *sizes, scheme=OFFICIAL),
            ]
            cells = [f"{total_sent(collectives, replicas) / 1e6:,.2f}" for collectives in sent]
            logits = f"{logits_bytes(sizes[0], replicas) / 1e6:,.2f}"
            row = [name, str(replicas), str(sizes[0]), *cells, str(len(all_collectives)), logits]
            lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)
