"""Makes the strategy for a run's devices: a TPU, GPUs, the CPU, or several machines."""

import os
import signal
import sys

import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.devices import tpu
from tf_simclr.devices.workers import TRAINING_JOBS, num_workers
from tf_simclr.errors import ConfigError, one_line

SLURM_PORT = 8888  # port of a node's first task; its next tasks use the next ports
MAX_SLURM_TASKS = 1024  # more than a Slurm node ever runs


def from_config(config: Config) -> tf.distribute.Strategy:
    """Makes the strategy that the settings ask for (`make_strategy`).

    Raises:
      ConfigError: the devices are not available.
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
    """Makes a strategy for a TPU, several GPUs, a single device, or several workers.

    Args:
      strategy: "auto" for this machine alone; "multi_worker" for MultiWorkerMirroredStrategy over
        the cluster that TF_CONFIG or Slurm describes. A multi_worker strategy must be made before
        TensorFlow does anything else.
      use_tpu: True, False, or "auto": a TPU if one is named or attached, else GPUs, else the CPU.
      tpu_name: name of a Cloud TPU, or "local" on a TPU VM.
      tpu_zone: zone of the Cloud TPU.
      gcp_project: project of the Cloud TPU.
      master: address of the TPU worker (grpc://...), instead of tpu_name.
      cpu_replicas: number of replicas to split the CPU into on a machine without accelerators.

    Raises:
      ConfigError: no TPU answers, the CPU cannot be split into cpu_replicas, or no cluster is
        described.
    """
    if strategy == "multi_worker":
        return _multi_worker_strategy()
    named = tpu_name or master or os.environ.get("TPU_NAME")
    if use_tpu is True or (use_tpu == "auto" and (named or tpu.is_attached())):
        return tpu.connect(tpu_name or master, zone=tpu_zone, project=gcp_project)
    gpus = tf.config.list_physical_devices("GPU")
    if len(gpus) > 1:
        return tf.distribute.MirroredStrategy([f"GPU:{i}" for i in range(len(gpus))])
    if gpus:
        return tf.distribute.OneDeviceStrategy("GPU:0")
    if cpu_replicas > 1:
        return tf.distribute.MirroredStrategy(_cpu_replica_names(cpu_replicas))
    return tf.distribute.OneDeviceStrategy("CPU:0")


def describe(strategy: tf.distribute.Strategy) -> str:
    """Describes the devices, as in "1 CPU", "8 GPUs" or "32 TPU cores"."""
    n, workers = strategy.num_replicas_in_sync, num_workers(strategy)
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return f"{n} TPU cores"
    kind = "GPU" if "GPU" in strategy.extended.worker_devices[0].upper() else "CPU"
    if workers > 1:
        return f"{n} {kind}s of {workers} workers"
    if kind == "CPU" and n > 1:
        return f"1 CPU as {n} replicas"
    return f"{n} {kind}{'s' if n > 1 else ''}"


def describe_models(strategy: tf.distribute.Strategy) -> str:
    """Describes the devices and names the model of the GPUs: "1 GPU, NVIDIA H100 PCIe"."""
    text = describe(strategy)
    if "GPU" not in text:
        return text
    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    names = {detail["device_name"] for detail in details if "device_name" in detail}
    return ", ".join([text, *sorted(names)])


def _multi_worker_strategy() -> tf.distribute.Strategy:
    resolver = _cluster_resolver()
    if not resolver.cluster_spec().as_dict():
        raise ConfigError(
            "strategy is multi_worker, but no cluster is described: set TF_CONFIG on each worker, "
            "or start the workers with srun in Slurm"
        )
    if resolver.task_type not in TRAINING_JOBS:
        raise ConfigError(
            f"strategy is multi_worker, and TF_CONFIG says that this is a {resolver.task_type!r}: "
            f"training has only {' and '.join(TRAINING_JOBS)}; evaluate on one machine, with "
            "--mode=eval"
        )
    cluster_size = sum(map(len, resolver.cluster_spec().as_dict().values()))
    print(
        f"{resolver.task_type} {resolver.task_id}: joining the {cluster_size} workers of the "
        "cluster (if this hangs, check that every worker has started)",
        file=sys.stderr,
    )
    previous_handler = signal.signal(signal.SIGINT, signal.SIG_DFL)  # lets Ctrl-C end the wait
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        raise ConfigError(
            f"strategy is multi_worker, but the cluster cannot be started ({one_line(error)}): "
            "check that TF_CONFIG names the same addresses on all workers and that their ports "
            "are free"
        ) from error
    finally:
        signal.signal(signal.SIGINT, previous_handler)
        signal.signal(
            signal.SIGTERM, signal.SIG_DFL
        )  # TensorFlow installs a handler that ignores it


def _cluster_resolver() -> tf.distribute.cluster_resolver.ClusterResolver:
    """Reads the cluster from TF_CONFIG, otherwise from Slurm's variables."""
    if os.environ.get("TF_CONFIG") or "SLURM_PROCID" not in os.environ:
        try:
            resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
            resolver.cluster_spec()
            return resolver
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"TF_CONFIG cannot be read ({one_line(error)}): it must be "
                '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": '
                '"worker", "index": 0}}'
            ) from error
    return _slurm_resolver()


def _slurm_resolver() -> tf.distribute.cluster_resolver.ClusterResolver:
    resolvers = tf.distribute.cluster_resolver
    try:
        # We use only the hosts and ranks of this resolver. It fails to assign GPUs if a node has
        # none, or if Slurm has assigned them already (--gpus-per-task).
        slurm = resolvers.SlurmClusterResolver(
            port_base=SLURM_PORT, gpus_per_node=MAX_SLURM_TASKS, gpus_per_task=1, auto_set_gpu=False
        )
        cluster = slurm.cluster_spec()
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            "strategy is multi_worker, but Slurm's variables describe no cluster "
            f"({one_line(error)}): start the workers with srun, or set TF_CONFIG"
        ) from error
    address = cluster.task_address(slurm.task_type, slurm.task_id)
    node = os.environ.get("SLURMD_NODENAME", address)
    if not address.startswith(node):
        # The resolver sorts hosts as text, which puts n10 before n9. Slurm sorts them as numbers.
        raise ConfigError(
            f"strategy is multi_worker, but TensorFlow expects this task on {address}, and it runs "
            f"on {node}: set TF_CONFIG instead"
        )
    return resolvers.SimpleClusterResolver(
        cluster,
        task_type=slurm.task_type,
        task_id=slurm.task_id,
        num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
        rpc_layer="grpc",
    )


def configure_cpu_replicas(replicas: int) -> None:
    """Splits the CPU into one logical device per replica.

    This is possible only before TensorFlow starts. Reading data starts it, so call this first.
    """
    cpu = tf.config.list_physical_devices("CPU")[0]
    if replicas > 1 and tf.config.get_logical_device_configuration(cpu) is None:
        parts = [tf.config.LogicalDeviceConfiguration()] * replicas
        try:
            tf.config.set_logical_device_configuration(cpu, parts)
        except RuntimeError:
            pass  # TensorFlow has started; `_cpu_replica_names` checks the number of devices


def _cpu_replica_names(replicas: int) -> list[str]:
    """Splits the CPU and returns the device names of its replicas."""
    configure_cpu_replicas(replicas)
    num_devices = len(tf.config.list_logical_devices("CPU"))
    if num_devices < replicas:
        raise ConfigError(
            f"cpu_replicas is {replicas}, but this process has started with {num_devices} CPU "
            "device(s)"
        )
    return [f"CPU:{i}" for i in range(replicas)]


def join_cluster(config: Config) -> tf.distribute.Strategy | None:
    """Makes the strategy for strategy=multi_worker; returns None otherwise.

    A cluster must be joined before TensorFlow does anything else.

    Raises:
      ConfigError: no cluster is described.
    """
    return from_config(config) if config.runtime.strategy == "multi_worker" else None


def on_cpu(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether the replicas run on the CPU."""
    return all("CPU" in device.upper() for device in strategy.extended.worker_devices)


def is_tpu(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether the replicas are the cores of a TPU."""
    return isinstance(strategy, tf.distribute.TPUStrategy)
