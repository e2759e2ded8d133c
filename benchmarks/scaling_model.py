"""Models the time of a pretraining step, its bytes, its input and its memory against replicas.

It computes and measures nothing: every assumption is an argument. docs/scaling.md has the formulas,
and what they were checked against.
"""

import argparse
import dataclasses

from benchmarks import network, report, scaling
from benchmarks.collectives import total_sent
from benchmarks.systems import SYSTEMS, System
from tf_simclr.losses.nt_xent import automatic_block_rows
from tf_simclr.models.resnet import BLOCKS_PER_GROUP

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_STATE = 3  # floats for each parameter: the weight, the momentum and the gradient
# Matrices of the size of one view's logits in each half of the loss: logits, their products of
# which they are made, and the gradients of both.
_DENSE_MATRICES = 4
_BLOCK_MATRICES = 8  # of (block_rows, images): logits, exponentials and gradients of two views

NOTES = """\
- computed from the formulas of docs/scaling.md; nothing here was measured.
- step: compute (FLOPs / peak / utilization), then BN, hiddens and gradients one after the other;
  gradients wait for the backward pass, less --overlap.
- sent: MB that a replica sends. efficiency: share of compute in the step.
- JPEG: MB/s that all hosts read; cores: CPU cores that decode and crop for all replicas.
- memory: GB of a replica: model, activations, views and loss. "!" marks more than it has."""


@dataclasses.dataclass(frozen=True)
class Assumptions:
    """Holds the arguments of the model that do not depend on the system.

    Attributes:
      model: sizes of the network.
      image_size: side of a view in pixels.
      dim: width of a projection.
      precision: type of the encoder's activations.
      microbatch_size: images that a replica processes at a time; 0 for all.
      utilization: share of the peak that convolutions and products achieve.
      overlap: share of the gradients' time that is hidden behind the backward pass.
      image_kb: 10^3 bytes of a JPEG.
      images_per_core: images per second that a CPU core decodes and crops.
    """

    model: network.Network
    image_size: int
    dim: int
    precision: str
    microbatch_size: int
    utilization: float
    overlap: float
    image_kb: float
    images_per_core: float


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Holds what the model says of a step.

    Attributes:
      seconds: {part of the step: its seconds}, in order.
      sent: bytes that a replica sends in a ring.
      memory: {what a replica keeps: bytes}.
      batch: images of the global batch.
    """

    seconds: dict[str, float]
    sent: float
    memory: dict[str, float]
    batch: int

    @property
    def images_per_second(self) -> float:
        """Returns the images per second of all replicas."""
        return self.batch / sum(self.seconds.values())


def flops(assumed: Assumptions, n: int, replicas: int) -> float:
    """Counts the FLOPs of a replica's step: of the network for two views, and of NT-Xent."""
    per_view = network.step_products(assumed.model)
    if assumed.microbatch_size:
        per_view += sum(assumed.model.products)  # the encoder runs forward twice
    return 2 * scaling.VIEWS * n * per_view + 24.0 * n * n * replicas * assumed.dim


def memory(assumed: Assumptions, n: int, replicas: int) -> dict[str, float]:
    """Computes the bytes that a replica keeps: model, activations, views and loss."""
    pixels = 3 * assumed.image_size**2
    at_a_time = assumed.microbatch_size or n
    batch = n * replicas
    rows = automatic_block_rows(batch)
    gathered = scaling.VIEWS * batch * assumed.dim * scaling.FLOAT
    if rows < n:
        logits = _BLOCK_MATRICES * rows * batch * scaling.FLOAT
    else:
        logits = _DENSE_MATRICES * scaling.logits_bytes(n, replicas)
    return {
        "model": _STATE * scaling.FLOAT * assumed.model.parameters,
        "activations": scaling.VIEWS * at_a_time * assumed.model.kept * _BYTES[assumed.precision],
        # The crops of all images in bytes, and the finished views in float32.
        "views": scaling.VIEWS * pixels * (n + at_a_time * scaling.FLOAT),
        "loss": 2 * gathered + logits,  # the projections and their gradients
    }


def predict(assumed: Assumptions, system: System, *, batch: int, replicas: int) -> Prediction:
    """Predicts a step.

    Args:
      assumed: the assumptions.
      system: the devices and their connections.
      batch: images of the global batch, a multiple of `replicas`.
      replicas: number of replicas.
    """
    n = batch // replicas
    scheme = scaling.ours(n, replicas)
    bn = [] if assumed.microbatch_size else scaling.batch_norm(assumed.model.bn_channels)
    parts = {
        "BN": bn,
        "hiddens": scaling.hiddens(n, assumed.dim, replicas, scheme),
        "gradients": scaling.gradients(assumed.model.parameters),
    }
    seconds = {"compute": flops(assumed, n, replicas) / (1e12 * system.peak_tflops)}
    seconds["compute"] /= assumed.utilization
    for name, collectives in parts.items():
        each = (system.seconds(collective, replicas) for collective in collectives)
        seconds[name] = sum(each) if replicas > 1 else 0.0
    seconds["gradients"] *= 1 - assumed.overlap
    sent = sum(total_sent(collectives, replicas) for collectives in parts.values())
    return Prediction(seconds, sent, memory(assumed, n, replicas), batch)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this subcommand."""
    number = parser.add_argument
    number("--resnet_depth", type=int, choices=sorted(BLOCKS_PER_GROUP), default=50)
    number("--width_multiplier", type=float, default=1.0)
    number("--sk_ratio", type=float, default=0.0)
    number("--image_size", type=report.positive, default=224)
    number("--dim", type=report.positive, default=128, help="width of a projection")
    number(
        "--replicas",
        type=report.list_of(report.positive),
        default=[8, 32, 128, 512],
        help="numbers of replicas (GPUs, TPU cores), separated by commas (default: 8,32,128,512)",
    )
    number(
        "--batch",
        type=report.list_of(report.positive),
        default=[4096],
        help="images of the global batch, separated by commas (default: 4096)",
    )
    number(
        "--system",
        type=report.list_of(str),
        default=list(SYSTEMS),
        help=f"of {', '.join(SYSTEMS)}, separated by commas (default: all)",
    )
    number("--precision", choices=sorted(_BYTES), default="bfloat16", help="(default: %(default)s)")
    number("--microbatch_size", type=report.at_least(0), default=0)
    for name, default, what in (
        ("utilization", 0.2, "share of the peak that the step's products achieve"),
        ("overlap", 0.0, "share of the gradients' sum that is hidden behind the backward pass"),
        ("image_kb", 110.0, "10^3 bytes of an encoded image"),
        ("images_per_core", 447.0, "images per second that one CPU core decodes and crops"),
    ):
        number(f"--{name}", type=float, default=default, help=f"{what} (default: %(default)s)")
    for name, what in (
        ("peak_tflops", "10^12 FLOP/s of a replica"),
        ("bandwidth", "10^9 bytes per second that a replica sends inside its host or slice"),
        ("network", "10^9 bytes per second that a GPU sends to other hosts"),
        ("latency", "microseconds of a hop inside"),
        ("network_latency", "microseconds of a hop between hosts"),
    ):
        number(f"--{name}", type=float, help=f"{what} (default: that of the system)")


def run(args: argparse.Namespace) -> None:
    """Prints the table."""
    if unknown := set(args.system) - set(SYSTEMS):
        raise SystemExit(f"--system must be of {', '.join(SYSTEMS)}, got {unknown.pop()!r}")
    if not 0 < args.utilization <= 1 or not 0 <= args.overlap <= 1:
        raise SystemExit(
            "--utilization must be in (0, 1] and --overlap in [0, 1], got "
            f"{args.utilization:g} and {args.overlap:g}"
        )
    model = network.simclr(
        resnet_depth=args.resnet_depth,
        width_multiplier=args.width_multiplier,
        sk_ratio=args.sk_ratio,
        image_size=args.image_size,
        small_stem=args.image_size <= 32,
        proj_out_dim=args.dim,
    )
    names = [field.name for field in dataclasses.fields(Assumptions) if field.name != "model"]
    assumed = Assumptions(model=model, **{name: getattr(args, name) for name in names})
    print(table(assumed, args))
    print(f"\n{NOTES}")


def table(assumed: Assumptions, args: argparse.Namespace) -> str:
    """Formats a Markdown table: a row for each system, batch and number of replicas."""
    lines = [
        "| system | batch | R | n | compute, ms | BN | hiddens | gradients | images/s | efficiency "
        "| sent, MB | JPEG, MB/s | cores | memory, GB |",
        "|---|" + "---:|" * 13,
    ]
    fields = ("peak_tflops", "bandwidth", "network", "latency", "network_latency")
    given = {name: getattr(args, name) for name in fields if getattr(args, name) is not None}
    for name in args.system:
        system = dataclasses.replace(SYSTEMS[name], **given)
        for batch in args.batch:
            for replicas in args.replicas:
                if batch % replicas:
                    raise SystemExit(
                        f"--batch must be divisible by the {replicas} replicas, got {batch}"
                    )
                found = predict(assumed, system, batch=batch, replicas=replicas)
                cells = [name, f"{batch:,}", f"{replicas:,}", f"{batch // replicas:,}"]
                cells += _cells(found, system, assumed)
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cells(found: Prediction, system: System, assumed: Assumptions) -> list[str]:
    """Formats a prediction."""
    rate, seconds = found.images_per_second, found.seconds
    used = 1e-9 * sum(found.memory.values())
    return [
        *(f"{1e3 * part:,.1f}" for part in seconds.values()),
        f"{rate:,.0f}",
        f"{seconds['compute'] / sum(seconds.values()):.0%}",
        f"{found.sent / 1e6:,.0f}",
        f"{rate * assumed.image_kb / 1e3:,.0f}",
        f"{rate / assumed.images_per_core:,.0f}",
        f"{used:,.1f}{'!' if used > system.memory else ''}",
    ]
