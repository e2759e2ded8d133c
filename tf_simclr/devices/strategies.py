"""Which devices a run uses: a TPU, the GPUs, the CPU, or those of several machines."""

import os
import signal
import socket
import sys
from concurrent import futures

import tensorflow as tf
from absl import logging

from tf_simclr.config import Config
from tf_simclr.devices.workers import TRAINING_JOBS, num_workers
from tf_simclr.errors import ConfigError, one_line

SLURM_PORT = 8888  # of a node's first task; the others count on from there
MANY = 1024  # more tasks than a SLURM node runs
TPU_ANSWER_SECONDS = 10  # in which a TPU worker that is up accepts a connection


def make_strategy(
    *,
    strategy: str = "auto",
    use_tpu: bool | str = "auto",
    tpu_name: str | None = None,
    tpu_zone: str | None = None,
    gcp_project: str | None = None,
    master: str | None = None,
    cpu_replicas: int = 1,
) -> tf.distribute.Strategy:
    """TPUStrategy, MirroredStrategy over several GPUs, a single device, or several workers.

    Args:
      strategy: "multi_worker" for MultiWorkerMirroredStrategy over the cluster that TF_CONFIG or
        SLURM describes, before TensorFlow has done anything else; "auto" for this machine alone.
      use_tpu: True, False, or "auto": a TPU where one is named or attached, else GPUs, else CPU.
      tpu_name: name of a Cloud TPU, or "local" on a TPU VM.
      tpu_zone: its zone.
      gcp_project: its project.
      master: address of the TPU worker (grpc://...), in place of tpu_name.
      cpu_replicas: on a machine without accelerators, split the CPU in this many replicas.

    Raises:
      ConfigError: use_tpu is True and no TPU answers; more cpu_replicas than can be made; no
        cluster is described.
    """
    if strategy == "multi_worker":
        return _multi_worker_strategy()
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
    n, workers = strategy.num_replicas_in_sync, num_workers(strategy)
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return f"{n} TPU cores"
    kind = "GPU" if "GPU" in strategy.extended.worker_devices[0].upper() else "CPU"
    if workers > 1:
        return f"{n} {kind}s of {workers} workers"
    if kind == "CPU" and n > 1:
        return f"1 CPU as {n} replicas"
    return f"{n} {kind}{'s' if n > 1 else ''}"


def _multi_worker_strategy():
    resolver = _cluster_resolver()
    if not resolver.cluster_spec().as_dict():
        raise ConfigError(
            "strategy is multi_worker, but no cluster is described: set TF_CONFIG on each worker, "
            "or start them by srun in SLURM"
        )
    if resolver.task_type not in TRAINING_JOBS:
        raise ConfigError(
            f"strategy is multi_worker, and TF_CONFIG says that this is a {resolver.task_type!r}: "
            f"training has only {' and '.join(TRAINING_JOBS)}; evaluate with --mode=eval alone"
        )
    number = sum(map(len, resolver.cluster_spec().as_dict().values()))
    print(
        f"{resolver.task_type} {resolver.task_id}: joining the {number} workers of the cluster (if "
        "it waits here, look whether another one has refused to start)",
        file=sys.stderr,
    )
    interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the waiting
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        raise ConfigError(
            f"strategy is multi_worker, but the cluster cannot be started ({one_line(error)}): "
            "check that TF_CONFIG names the same addresses on all workers and that their ports "
            "are free"
        ) from error
    finally:
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # TensorFlow catches it, to do nothing here


def _cluster_resolver():
    """The cluster of TF_CONFIG, else of SLURM."""
    resolvers = tf.distribute.cluster_resolver
    if os.environ.get("TF_CONFIG") or "SLURM_PROCID" not in os.environ:
        try:
            resolver = resolvers.TFConfigClusterResolver()
            resolver.cluster_spec()
            return resolver
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"TF_CONFIG cannot be read ({one_line(error)}): it must be "
                '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": '
                '"worker", "index": 0}}'
            ) from error
    try:
        # Only the hosts and ranks: the resolver's own division of the GPUs fails where a node has
        # none, or where SLURM has divided them already (--gpus-per-task).
        slurm = resolvers.SlurmClusterResolver(
            port_base=SLURM_PORT, gpus_per_node=MANY, gpus_per_task=1, auto_set_gpu=False
        )
        cluster = slurm.cluster_spec()
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            "strategy is multi_worker, but SLURM's variables describe no cluster "
            f"({one_line(error)}): start the workers by srun, or set TF_CONFIG"
        ) from error
    address = cluster.task_address(slurm.task_type, slurm.task_id)
    node = os.environ.get("SLURMD_NODENAME", address)
    if not address.startswith(node):
        # The resolver sorts the hosts as text, SLURM as numbers: n10 before n9, or after it.
        raise ConfigError(
            f"strategy is multi_worker, but TensorFlow takes this task to be on {address}, and it "
            f"is on {node}: set TF_CONFIG instead"
        )
    return resolvers.SimpleClusterResolver(
        cluster,
        task_type=slurm.task_type,
        task_id=slurm.task_id,
        num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
        rpc_layer="grpc",
    )


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
            _require_answer(resolver.cluster_spec())
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except Exception as error:  # the resolver raises whatever its transport raises
        raise ConfigError(
            f"use_tpu: no TPU answers at {address!r} ({one_line(error)}): check --tpu_name (a name "
            "that Google Cloud knows, grpc://HOST:PORT, or local), --tpu_zone and --gcp_project, "
            "or run without one by --use_tpu=False"
        ) from error
    strategy = tf.distribute.TPUStrategy(resolver)
    logging.info("TPU %s: %d cores", address, strategy.num_replicas_in_sync)
    return strategy


def _require_answer(cluster: tf.train.ClusterSpec):
    """Raises OSError where a TPU worker of the cluster accepts no connection.

    TensorFlow itself would wait for it without a word.
    """

    def connect(address: str):
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise OSError(f"{address!r} is not HOST:PORT")
        try:
            socket.create_connection((host.strip("[]"), int(port)), TPU_ANSWER_SECONDS).close()
        except OSError as error:
            raise OSError(f"{address}: {error.strerror or error}") from error

    addresses = cluster.as_dict().get("worker", [])
    with futures.ThreadPoolExecutor(max(1, min(64, len(addresses)))) as pool:
        list(pool.map(connect, addresses))


def divide_cpu(replicas: int):
    """Divides the CPU among replicas, before TensorFlow starts; later it cannot be done.

    Whatever reads data starts TensorFlow, so that this comes first.
    """
    cpu = tf.config.list_physical_devices("CPU")[0]
    if replicas > 1 and tf.config.get_logical_device_configuration(cpu) is None:
        parts = [tf.config.LogicalDeviceConfiguration()] * replicas
        try:
            tf.config.set_logical_device_configuration(cpu, parts)
        except RuntimeError:
            pass  # TensorFlow has started: the devices there are must do


def _split_cpu(replicas: int) -> list[str]:
    divide_cpu(replicas)
    there = len(tf.config.list_logical_devices("CPU"))
    if there < replicas:
        raise ConfigError(
            f"cpu_replicas is {replicas}, but this process has started with {there} CPU device(s)"
        )
    return [f"CPU:{i}" for i in range(replicas)]


def from_config(config: Config) -> tf.distribute.Strategy:
    """Makes the strategy that the settings ask for (`make_strategy`).

    Raises:
      ConfigError: the devices are not there.
    """
    runtime = config.runtime
    return make_strategy(
        strategy=runtime.strategy,
        use_tpu=runtime.use_tpu,
        tpu_name=runtime.tpu_name,
        tpu_zone=runtime.tpu_zone,
        gcp_project=runtime.gcp_project,
        master=runtime.master,
        cpu_replicas=runtime.cpu_replicas,
    )


def join_cluster(config: Config) -> tf.distribute.Strategy | None:
    """Makes the strategy of strategy=multi_worker; None for the others.

    A cluster must be joined before TensorFlow does anything else.

    Raises:
      ConfigError: no cluster is described.
    """
    return from_config(config) if config.runtime.strategy == "multi_worker" else None


def on_cpu(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether the replicas are this machine's CPU."""
    return all("CPU" in device.upper() for device in strategy.extended.worker_devices)


def is_tpu(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether the replicas are the cores of a TPU."""
    return isinstance(strategy, tf.distribute.TPUStrategy)
