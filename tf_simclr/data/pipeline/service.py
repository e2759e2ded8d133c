"""Training batches made on other machines: tf.data service.

A dispatcher and its tf.data workers (tools/data_service.py) read, decode and augment; the training
workers, called consumers here, only receive. The stream is cut into rounds of one batch for each
consumer. With n tf.data workers, round t is made by number t modulo n, from the examples that a
local pipeline would use for it. All consumers take their batch of a round together (coordinated
reads). The batches are therefore those of a local pipeline, each exactly once.

With several tf.data workers, the order of the batches may differ: a worker that has nothing ready
is passed over, and runs behind from then on. Such a run cannot be repeated to the last bit. Where
it is resumed, the rounds by which the workers were apart are lost or come twice.
"""

import dataclasses
import socket
import urllib.parse

import tensorflow as tf

from tf_simclr.errors import ConfigError, one_line

SECONDS_TO_ANSWER = 5.0


@dataclasses.dataclass(frozen=True)
class Service:
    """How one consumer takes part.

    Attributes:
      address: of the dispatcher, grpc://HOST:PORT.
      job_name: the same for all consumers of a run, but new for each start of it. Under an old name
        the dispatcher would continue where that start ended.
      consumer_index: number of this consumer, from 0.
      num_consumers: how many there are.
    """

    address: str
    job_name: str
    consumer_index: int = 0
    num_consumers: int = 1

    def keep_worker_rounds(self, examples: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Keeps the examples of a tf.data worker's own rounds.

        It belongs before the expensive ops: each tf.data worker runs what comes before it in full.
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
    """Asks whether something answers at grpc://HOST:PORT.

    Raises:
      ConfigError: nothing does within SECONDS_TO_ANSWER.
    """
    target = urllib.parse.urlparse(address)
    try:
        host_and_port = (target.hostname or "", target.port or 0)
        socket.create_connection(host_and_port, SECONDS_TO_ANSWER).close()
    except OSError as error:
        raise ConfigError(
            f"data_service {address}: no dispatcher answers there ({one_line(error)}): start one "
            "by tools/data_service.py, or leave --data_service out to read on this machine"
        ) from error
