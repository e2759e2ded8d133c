"""Lists the vendors' peak speeds of accelerators, and recognizes those of this machine.

All peaks are for dense matrices. (NVIDIA's datasheets since the A100 also, or only, give twice as
much, for sparse ones.) float32 is what TensorFlow computes float32 in by default: TF32 on GPUs that
have it, and bfloat16 on TPUs. The peaks of GeForce cards are for sums in float32.
"""

import dataclasses
import os
import re

import tensorflow as tf

from tf_simclr.devices import strategies

TPU_TYPE = "TPU_ACCELERATOR_TYPE"  # a TPU VM sets it; TensorFlow does not tell a TPU's version


@dataclasses.dataclass(frozen=True)
class Device:
    """Holds the peak speed of a GPU, or of a TPU chip.

    Attributes:
      name: name to show.
      pattern: regular expression for all of TensorFlow's name of the GPU, or for the version in the
        TPU's type ("v4" of "v4-8").
      tflops: {precision: 10^12 multiplications and additions per second}; a precision that the
        matrix units do not have is missing.
      source: where the vendor says so.
      cores: what a TPU's type counts for a chip: "v4-8" has 8 cores on 4 chips.
    """

    name: str
    pattern: str
    tflops: dict[str, float]
    source: str
    cores: int = 1


def _gpu(name: str, pattern: str, half: float, single: float, source: str) -> Device:
    """Makes a GPU whose matrix units have float16, bfloat16 and TF32."""
    tflops = {"float16": half, "bfloat16": half, "float32": single}
    return Device(name, f"(NVIDIA )?{pattern}", tflops, f"NVIDIA {source}")


def _older_gpu(name: str, pattern: str, half: float, single: float, source: str) -> Device:
    """Makes a GPU whose matrix units have only float16."""
    tflops = {"float16": half, "float32": single}
    return Device(name, f"((NVIDIA|Tesla) )?{pattern}", tflops, f"NVIDIA {source}")


def _tpu(version: str, pattern: str, tflops: float, cores: int) -> Device:
    peaks = {"bfloat16": tflops, "float32": tflops}
    return Device(
        f"TPU {version}", pattern, peaks, f"Google Cloud TPU documentation, {version}", cores
    )


GPUS = (
    _older_gpu("V100 SXM2", r"V100-SXM2\S*", 125, 15.7, "V100 datasheet"),
    _older_gpu("V100 PCIe", r"V100-PCIE\S*", 112, 14, "V100 datasheet"),
    _older_gpu("T4", "T4", 65, 8.1, "T4 datasheet"),
    _gpu("A100", r"A100(-(SXM|PCI)\S*| 80GB PCIe)", 312, 156, "A100 datasheet"),
    _gpu("L4", "L4", 121, 60, "L4 datasheet (half of its sparse figures)"),
    _gpu("H100 SXM", "H100 80GB HBM3", 989, 494, "H100 datasheet (half of its sparse figures)"),
    _gpu("H100 PCIe", "H100 PCIe", 756, 378, "H100 datasheet (half of its sparse figures)"),
    _gpu("H200 SXM", "H200", 989, 494, "H200 datasheet (half of its sparse figures)"),
    _gpu("RTX 3090", "GeForce RTX 3090", 71, 35.6, "GA102 whitepaper, appendix A"),
    _gpu("RTX 4090", "GeForce RTX 4090", 165.2, 82.6, "Ada whitepaper, appendix A"),
)
TPUS = (
    _tpu("v2", "v2", 45, cores=2),
    _tpu("v3", "v3", 123, cores=2),
    _tpu("v4", "v4", 275, cores=2),
    _tpu("v5e", "v5e|v5lite|v5litepod", 197, cores=1),
    _tpu("v5p", "v5p", 459, cores=2),
    _tpu("v6e", "v6e", 918, cores=1),
)


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """Describes the accelerators of a strategy.

    Attributes:
      name: what TensorFlow, or the TPU VM, calls them.
      chips: their number; of a TPU, its chips.
      device: their row of the table; None if the table lacks it.
    """

    name: str
    chips: int
    device: Device | None

    def peak_flops(self, precision: str) -> float | None:
        """Returns the peak of all chips per second; None if the table does not have it."""
        tflops = self.device.tflops.get(precision) if self.device else None
        return None if tflops is None else 1e12 * tflops * self.chips


def gpu(name: str, chips: int = 1) -> Accelerator:
    """Looks up GPUs by TensorFlow's name of one, such as "NVIDIA A100-SXM4-40GB"."""
    found = [device for device in GPUS if re.fullmatch(device.pattern, name)]
    return Accelerator(name, chips, found[0] if found else None)


def tpu(accelerator_type: str) -> Accelerator:
    """Looks up a TPU by its type, such as "v3-32"."""
    version, _, size = accelerator_type.partition("-")
    for device in TPUS:
        if re.fullmatch(device.pattern, version) and size.isdecimal():
            return Accelerator(accelerator_type, int(size) // device.cores, device)
    return Accelerator(accelerator_type or "TPU", 0, None)


def of(strategy: tf.distribute.Strategy) -> Accelerator | None:
    """Recognizes the accelerators of a strategy; None if it computes on the CPU."""
    if strategies.on_cpu(strategy):
        return None
    if strategies.is_tpu(strategy):
        return tpu(os.environ.get(TPU_TYPE, ""))
    physical = tf.config.list_physical_devices("GPU")[0]
    details = tf.config.experimental.get_device_details(physical)
    return gpu(details.get("device_name", "GPU"), strategy.num_replicas_in_sync)
