"""Makes training batches on other machines with tf.data service.

A dispatcher and its tf.data workers (tools/data_service.py) read, decode and augment. The training
workers, called consumers here, only receive. The stream is cut into rounds of one batch per
consumer. With n tf.data workers, round t is made by worker t mod n, from the same examples as in a
local pipeline. All consumers take their batches of a round together (coordinated reads). The
batches are therefore the same as in a local pipeline, each exactly once.

With several tf.data workers, the order of the batches may differ: a slow worker is skipped and
stays behind. Such a run is not reproducible bit for bit, and resuming it may lose or repeat a few
rounds.
"""

import dataclasses
import socket
import urllib.parse

import tensorflow as tf

from tf_simclr.errors import ConfigError, one_line

SECONDS_TO_ANSWER = 5.0


@dataclasses.dataclass(frozen=True)
class Service:
    """One consumer's connection to a tf.data service.

    Attributes:
      address: address of the dispatcher, grpc://HOST:PORT.
      job_name: the same for all consumers of a run, but new for each start of it. With a reused
        name, the dispatcher would continue the old stream.
      consumer_index: index of this consumer, from 0.
      num_consumers: number of consumers.
    """

    address: str
    job_name: str
    consumer_index: int = 0
    num_consumers: int = 1

    def keep_worker_rounds(self, examples: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Keeps, on each tf.data worker, only the examples of its rounds.

        Apply it before the expensive ops: each tf.data worker runs the ops before it on all
        examples.
        """
        hint = tf.data.experimental.SHARD_HINT  # replaced on each tf.data worker
        rounds = examples.batch(batch_size * self.num_consumers, drop_remainder=True)
        return rounds.shard(hint, hint).unbatch()

    def distribute(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Returns this consumer's batches; the tf.data workers run the dataset `batches`.

        Args:
          batches: made from the examples that `keep_worker_rounds` keeps.
        """
        return batches.apply(
            tf.data.experimental.service.distribute(
                processing_mode=tf.data.experimental.service.ShardingPolicy.HINT,
                service=self.address,
                job_name=self.job_name,
                consumer_index=self.consumer_index,
                num_consumers=self.num_consumers,
            )
        )


def check(address: str) -> None:
    """Checks that something answers at grpc://HOST:PORT.

    Raises:
      ConfigError: nothing answers within SECONDS_TO_ANSWER.
    """
    target = urllib.parse.urlparse(address)
    try:
        host_and_port = (target.hostname or "", target.port or 0)
        socket.create_connection(host_and_port, SECONDS_TO_ANSWER).close()
    except OSError as error:
        raise ConfigError(
            f"data_service {address}: no dispatcher answers there ({one_line(error)}): start one "
            "with tools/data_service.py, or unset --data_service to read on this machine"
        ) from error
