"""Connects to a TPU: of this machine, of Google Cloud, or at an address."""

import os
import socket
from concurrent import futures

import tensorflow as tf
from absl import logging

from tf_simclr.errors import ConfigError, one_line

ANSWER_SECONDS = 10  # time limit for a TPU worker to accept a connection


def is_attached() -> bool:
    """Returns whether this is a TPU VM: TensorFlow lists its cores, or it has the kernel driver."""
    return bool(tf.config.list_physical_devices("TPU")) or os.path.exists("/dev/accel0")


def connect(
    address: str | None, *, zone: str | None, project: str | None
) -> tf.distribute.Strategy:
    """Connects to a TPU and initializes it.

    Args:
      address: name of a Cloud TPU, grpc://HOST:PORT, or "local" on a TPU VM. None uses the
        environment variable TPU_NAME, otherwise the local TPU.
      zone: zone of the Cloud TPU.
      project: project of the Cloud TPU.

    Raises:
      ConfigError: no TPU answers.
    """
    # On a TPU VM the resolver must be told that the TPU is local.
    address = address or os.environ.get("TPU_NAME") or "local"
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            address, zone=zone, project=project
        )
        if address != "local":
            _require_answer(resolver.cluster_spec())
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except Exception as error:  # the resolver's transport can raise any exception
        raise ConfigError(
            f"use_tpu: no TPU answers at {address!r} ({one_line(error)}): check --tpu_name (a name "
            "that Google Cloud knows, grpc://HOST:PORT, or local), --tpu_zone and --gcp_project, "
            "or set --use_tpu=False to run without a TPU"
        ) from error
    strategy = tf.distribute.TPUStrategy(resolver)
    logging.info("TPU %s: %d cores", address, strategy.num_replicas_in_sync)
    return strategy


def _require_answer(cluster: tf.train.ClusterSpec) -> None:
    """Checks that every TPU worker of a cluster accepts a connection.

    Otherwise TensorFlow would wait for it without a message.

    Raises:
      OSError: a worker accepts no connection.
    """

    def connect(address: str) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise OSError(f"{address!r} is not HOST:PORT")
        try:
            socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
        except OSError as error:
            raise OSError(f"{address}: {error.strerror or error}") from error

    addresses = cluster.as_dict().get("worker", [])
    with futures.ThreadPoolExecutor(max(1, min(64, len(addresses)))) as pool:
        list(pool.map(connect, addresses))
