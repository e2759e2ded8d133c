"""Which devices a run uses: a TPU, the GPUs, or the CPU."""

import os

import tensorflow as tf
from absl import logging

from tf_simclr.config import ConfigError, one_line


def make_strategy(
    *,
    use_tpu: bool | str = "auto",
    tpu_name: str | None = None,
    tpu_zone: str | None = None,
    gcp_project: str | None = None,
    master: str | None = None,
    cpu_replicas: int = 1,
) -> tf.distribute.Strategy:
    """TPUStrategy, MirroredStrategy over several GPUs, or a single device.

    Args:
      use_tpu: True, False, or "auto": a TPU where one is named or attached, else GPUs, else CPU.
      tpu_name: name of a Cloud TPU, or "local" on a TPU VM.
      tpu_zone: its zone.
      gcp_project: its project.
      master: address of the TPU worker (grpc://...), in place of tpu_name.
      cpu_replicas: on a machine without accelerators, split the CPU in this many replicas.

    Raises:
      ConfigError: use_tpu is True and no TPU answers; more cpu_replicas than can be made.
    """
    named = tpu_name or master or os.environ.get("TPU_NAME")
    if use_tpu is True or (use_tpu == "auto" and (named or _tpu_is_attached())):
        return _tpu_strategy(tpu_name or master, zone=tpu_zone, project=gcp_project)
    gpus = tf.config.list_physical_devices("GPU")
    if len(gpus) > 1:
        return tf.distribute.MirroredStrategy([f"GPU:{i}" for i in range(len(gpus))])
    if gpus:
        return tf.distribute.OneDeviceStrategy("GPU:0")
    if cpu_replicas > 1:
        return tf.distribute.MirroredStrategy(_split_cpu(cpu_replicas))
    return tf.distribute.OneDeviceStrategy("CPU:0")


def describe(strategy: tf.distribute.Strategy) -> str:
    """E.g. "1 CPU", "8 GPUs", "32 TPU cores"."""
    n = strategy.num_replicas_in_sync
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return f"{n} TPU cores"
    kind = "GPU" if "GPU" in strategy.extended.worker_devices[0].upper() else "CPU"
    if kind == "CPU" and n > 1:
        return f"1 CPU as {n} replicas"
    return f"{n} {kind}{'s' if n > 1 else ''}"


def _tpu_is_attached() -> bool:
    """True on a TPU VM: its TensorFlow lists the cores, or the kernel driver is there."""
    return bool(tf.config.list_physical_devices("TPU")) or os.path.exists("/dev/accel0")


def _tpu_strategy(address: str | None, *, zone: str | None, project: str | None):
    # On a TPU VM the resolver must be told that the TPU is this machine's own.
    address = address or os.environ.get("TPU_NAME") or "local"
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            address, zone=zone, project=project
        )
        if address != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except Exception as error:  # the resolver raises whatever its transport raises
        raise ConfigError(
            f"use_tpu: no TPU answers at {address!r} ({one_line(error)}): check --tpu_name, "
            "--tpu_zone and --gcp_project, or run without one by --use_tpu=False"
        ) from error
    strategy = tf.distribute.TPUStrategy(resolver)
    logging.info("TPU %s: %d cores", address, strategy.num_replicas_in_sync)
    return strategy


def _split_cpu(replicas: int) -> list[str]:
    cpu = tf.config.list_physical_devices("CPU")[0]
    if tf.config.get_logical_device_configuration(cpu) is None:
        parts = [tf.config.LogicalDeviceConfiguration()] * replicas
        try:
            tf.config.set_logical_device_configuration(cpu, parts)
        except RuntimeError:
            pass  # TensorFlow has started: the devices there are must do
    there = len(tf.config.list_logical_devices("CPU"))
    if there < replicas:
        raise ConfigError(
            f"cpu_replicas is {replicas}, but this process has started with {there} CPU device(s)"
        )
    return [f"CPU:{i}" for i in range(replicas)]
