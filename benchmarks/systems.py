"""Describes TPU slices and hosts with GPUs: what the scaling model assumes of them."""

import dataclasses
import math

from benchmarks import devices
from benchmarks.collectives import GATHER, SUM, Collective


@dataclasses.dataclass(frozen=True)
class System:
    """Holds what the model needs to know of a replica and of its connections.

    Attributes:
      peak_tflops: of a replica, 10^12 FLOP/s in bfloat16.
      memory: of a replica, 10^9 bytes.
      bandwidth: 10^9 bytes per second that a replica sends inside its host or slice.
      network: 10^9 bytes per second that a replica sends to other hosts; 0 for a TPU slice, which
        is one torus.
      group: replicas of a host; 0 for a slice.
      latency: microseconds of a hop inside a host or slice.
      network_latency: microseconds of a hop between hosts.
    """

    peak_tflops: float
    memory: float
    bandwidth: float
    network: float = 0.0
    group: int = 0
    latency: float = 1.0
    network_latency: float = 5.0

    def seconds(self, collective: Collective, replicas: int) -> float:
        """Returns the time of a collective: bytes by bandwidth, and hops by latency."""
        size = collective.bytes
        if collective.kind == GATHER and not self.group:
            # TPUStrategy gathers by summing tensors that are padded with zeros.
            return self.seconds(Collective(SUM, size * replicas), replicas)
        if not self.group or replicas <= self.group:
            hops = _hops(replicas, torus=not self.group) * (2 if collective.kind == SUM else 1)
            sent = collective.sent(replicas)
            return 1e-9 * sent / self.bandwidth + 1e-6 * self.latency * hops
        return self._hierarchical(collective, replicas // self.group)

    def _hierarchical(self, collective: Collective, hosts: int) -> float:
        """Returns the time if each GPU exchanges its share with the same GPU of all hosts."""
        inside, size = self.group - 1, collective.bytes
        if collective.kind == SUM:
            # A reduce-scatter inside, a sum of an eighth between hosts, an all-gather inside.
            sent_inside = 2 * inside / self.group * size
            sent_outside = 2 * (hosts - 1) / hosts * size / self.group
            hops = 2 * inside, 2 * _tree_hops(hosts)
        else:
            sent_inside, sent_outside = inside * hosts * size, (hosts - 1) * size
            hops = inside, _tree_hops(hosts)
        seconds = 1e-9 * (sent_inside / self.bandwidth + sent_outside / self.network)
        return seconds + 1e-6 * (self.latency * hops[0] + self.network_latency * hops[1])


def _hops(replicas: int, *, torus: bool) -> int:
    """Returns the hops from a replica to all others: in a ring, or along both sides of a torus."""
    if not torus:
        return replicas - 1
    side = max(n for n in range(1, math.isqrt(replicas) + 1) if replicas % n == 0)
    return side - 1 + replicas // side - 1


def _tree_hops(hosts: int) -> int:
    """Returns the hops to the root of a binary tree of hosts, as NCCL chooses for small inputs."""
    return math.ceil(math.log2(hosts))


def _core(version: str, memory: float, chip_sends: float) -> System:
    """Makes a TPU slice whose chips send that many 10^9 bytes per second in all directions."""
    chip = next(device for device in devices.TPUS if device.name == f"TPU {version}")
    tflops = chip.tflops["bfloat16"] / chip.cores
    return System(tflops, memory / chip.cores, chip_sends / chip.cores)


def _gpu(name: str, memory: float, nvlink: float, network: float) -> System:
    """Makes hosts of 8 GPUs with the NVLink and the network adapters of NVIDIA's DGX."""
    gpu = next(device for device in devices.GPUS if device.name == name)
    return System(gpu.tflops["bfloat16"], memory, nvlink, network, group=8, latency=1.5)


# A replica is a core of TPU v3 and v4. Links of a chip, in each direction: v3 4 of 656 Gbit/s
# (Norrie et al., IEEE Micro 2021), v4 6 of 50 GB/s (Jouppi et al., ISCA 2023), v5e 400 GB/s both
# ways together (Google Cloud). NVLink has 300 and 450 GB/s. Each GPU has a network adapter of 200
# or 400 Gbit/s (NVIDIA DGX A100 and H100). Latencies are assumptions.
SYSTEMS = {
    "TPU-v3": _core("v3", 34.4, 328),
    "TPU-v4": _core("v4", 34.4, 300),
    "TPU-v5e": _core("v5e", 16, 200),
    "8xA100": _gpu("A100", 80, 300, 25),
    "8xH100": _gpu("H100 SXM", 80, 450, 50),
}
