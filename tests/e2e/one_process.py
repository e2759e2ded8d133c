"""run.py in one process of several CPU replicas, each fed what one worker of a cluster would read.

python one_process.py NUMBER [run.py's flags]
"""

import functools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import tensorflow as tf  # noqa: E402

from tf_simclr import experiment  # noqa: E402
from tf_simclr.cli import flags  # noqa: E402

number = int(sys.argv[1])
distribute = tf.distribute.MirroredStrategy.distribute_datasets_from_function


def in_turn(strategy, make):
    """Replica i gets the batches of input pipeline i."""
    parts = [make(tf.distribute.InputContext(number, i, number)) for i in range(number)]
    turns = tf.data.Dataset.range(number).repeat()
    # It would end with the first part that ends, in the middle of a turn: all are equally long.
    return distribute(strategy, lambda context: tf.data.Dataset.choose_from_datasets(parts, turns))


tf.distribute.MirroredStrategy.distribute_datasets_from_function = in_turn
# Tracing the model for each of several replicas takes minutes. Collectives cannot run eagerly.
tf.config.run_functions_eagerly(True)
tf.distribute.MirroredStrategy = functools.partial(
    tf.distribute.MirroredStrategy, cross_device_ops=tf.distribute.ReductionToOneDevice()
)
config = flags.parse(["run.py", *sys.argv[2:]]).config.replace(cpu_replicas=number)
experiment.run(config)
