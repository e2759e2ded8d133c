"""What several workers agree on, and what is said when one of them is lost.

Real clusters are in tests/e2e/test_multi_worker.py.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_simclr import compat
from tf_simclr.devices import workers


def test_one_worker_agrees_with_itself(replicas):
    strategy = replicas(2)
    assert workers.num_workers(strategy) == 1 and workers.is_chief(strategy)
    np.testing.assert_allclose(workers.mean_over_workers(strategy, [1.5, 2]), [1.5, 2])
    for number in (0, 2**16, 2**31 - 1, 2**32 - 1):
        assert workers.from_chief(strategy, number) == number
        assert workers.all_same(strategy, number)


def test_an_average_over_replicas(replicas, run_on):
    strategy = replicas(4)
    with strategy.scope():
        layer = keras.layers.BatchNormalization(momentum=0.5)
        layer.build((None, 2))
    parts = compat.tf_variable(layer.moving_mean).values
    for i, part in enumerate(parts):
        part.assign([float(i), -float(i)])
    workers.average_over_replicas(strategy, [layer.moving_mean])
    for part in parts:
        np.testing.assert_allclose(part, [1.5, -1.5])
    np.testing.assert_allclose(workers.local_variable(layer.moving_mean), [1.5, -1.5])


class TwoWorkers:
    """As much of a strategy as raise_worker_lost looks at."""

    def __init__(self, monkeypatch):
        self.cluster_resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": ["a:1", "b:2"]}), task_type="worker", task_id=0
        )
        monkeypatch.setattr(workers, "num_workers", lambda strategy: 2)


@pytest.mark.parametrize(
    "reason, who",
    [
        (
            "Error reported from /job:worker/task:1: /job:worker/replica:0/task:1 timeout",
            "worker 1 was",
        ),
        (
            "Connection reset by peer\nremote target /job:chief/replica:0/task:0 while",
            "chief 0 was",
        ),
        ("Socket closed", "another worker was"),
    ],
)
def test_a_lost_worker_is_named(monkeypatch, reason, who):
    message = f"Graph execution error:\n\nCollective ops is aborted by: {reason}"
    with pytest.raises(workers.WorkerLost, match=f"^{who} lost.*worker 0.*last checkpoint"):
        with workers.raise_worker_lost(TwoWorkers(monkeypatch)):
            raise tf.errors.UnavailableError(None, None, message)


def test_other_errors_are_left_as_they_are(monkeypatch, replicas):
    for strategy, error in [
        (TwoWorkers(monkeypatch), tf.errors.UnavailableError(None, None, "no such bucket")),
        (
            TwoWorkers(monkeypatch),
            tf.errors.InvalidArgumentError(
                None, None, "Collective ops is aborted by: a wrong shape"
            ),
        ),
        (None, tf.errors.UnavailableError(None, None, "Collective ops is aborted by: x")),
    ]:
        with pytest.raises(type(error)), workers.raise_worker_lost(strategy):
            raise error
