"""Measures the memory of a computation: the peak of its process or device minus the size before."""

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from benchmarks import local


def peak(make: Callable[..., Callable[[], object]], *args: object, calls: int = 2) -> float:
    """Returns the bytes by which the resident set grows, at its peak, while a function is called.

    Everything runs in a new process. make(*args) runs first. It is not counted and may run
    TensorFlow's first operation. Then the function that it returns is called `calls` times,
    including tracing.

    Raises:
      FileNotFoundError: the system is not Linux; only Linux reports a process's peak.
    """
    return local.in_new_process(_peak, make, args, calls)


def of_device(device: str, *, reset_peak: bool = False) -> tuple[int, int] | None:
    """Returns the bytes of a device that are in use, and their peak; None if it is not reported.

    TensorFlow reports the memory of GPUs and TPUs. After a trace it also counts that of the CPU,
    from the trace on, which is no figure of a run.

    Args:
      device: TensorFlow's name of the device.
      reset_peak: whether the next peak is measured from now on.
    """
    spec = tf.DeviceSpec.from_string(device)
    if spec.device_type == "CPU":
        return None
    name = f"{spec.device_type}:{spec.device_index}"
    try:
        memory = tf.config.experimental.get_memory_info(name)
        if reset_peak:
            tf.config.experimental.reset_memory_stats(name)
    except (ValueError, tf.errors.OpError):
        return None
    return memory["current"], memory["peak"]


def peak_of_process() -> float:
    """Returns the peak of this process's resident set in bytes.

    Raises:
      FileNotFoundError: the system is not Linux.
    """
    return _status("VmHWM")


def _peak(make, args, calls) -> float:
    call = make(*args)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    floor = _status("VmRSS")
    for _ in range(calls):
        call()
    return peak_of_process() - floor


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return 1024.0 * int(value)
