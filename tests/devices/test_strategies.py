"""Which strategy comes out, and what is said where none does."""

import json
import socket

import numpy as np
import pytest
import tensorflow as tf

from tf_simclr.config import Config
from tf_simclr.devices import strategies, tpu
from tf_simclr.errors import ConfigError


@pytest.fixture(autouse=True)
def no_tpu(monkeypatch):
    for name in ("TPU_NAME", "TF_CONFIG", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tpu, "is_attached", lambda: False)


@pytest.fixture
def gpus(monkeypatch):
    """Function: number -> TensorFlow believes that there are as many GPUs."""
    real = tf.config.list_physical_devices

    def pretend(number: int):
        fake = [f"GPU:{i}" for i in range(number)]
        monkeypatch.setattr(
            tf.config,
            "list_physical_devices",
            lambda kind=None: fake if kind == "GPU" else real(kind),
        )

    pretend(0)
    return pretend


@pytest.mark.parametrize("use_tpu", [False, "auto"])
def test_a_cpu_alone_is_one_device(gpus, use_tpu):
    strategy = strategies.make_strategy(use_tpu=use_tpu)
    assert isinstance(strategy, tf.distribute.OneDeviceStrategy)
    assert strategies.describe(strategy) == "1 CPU"


def test_cpu_replicas_work_together(gpus):
    strategy = strategies.from_config(Config().replace(use_tpu=False, cpu_replicas=3))
    assert strategy.num_replicas_in_sync == 3
    assert strategies.describe(strategy) == "1 CPU as 3 replicas"

    @tf.function
    def total():
        def replica():
            context = tf.distribute.get_replica_context()
            own = tf.cast(context.replica_id_in_sync_group, tf.float32) + 1
            return context.all_reduce(tf.distribute.ReduceOp.SUM, own)

        return strategy.experimental_local_results(strategy.run(replica))

    np.testing.assert_array_equal(total(), [6, 6, 6])


def test_more_cpu_replicas_than_devices(gpus):
    with pytest.raises(ConfigError, match="cpu_replicas is 99, but .* with 4 CPU device"):
        strategies.make_strategy(use_tpu=False, cpu_replicas=99)


def test_gpus_come_before_the_cpu(gpus, monkeypatch):
    created = []
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda devices: created.append(devices))
    monkeypatch.setattr(tf.distribute, "OneDeviceStrategy", lambda device: created.append(device))
    for number in (2, 1):
        gpus(number)
        strategies.make_strategy(cpu_replicas=4)
    assert created == [["GPU:0", "GPU:1"], "GPU:0"]


class FakeTPU:
    """Notes what TensorFlow is asked to do with a TPU; the call named `fails` does fail."""

    def __init__(self, monkeypatch, fails=None):
        self.calls = []
        resolvers = tf.distribute.cluster_resolver
        monkeypatch.setattr(resolvers, "TPUClusterResolver", self.note("resolve", fails))
        replace_bring_up(
            monkeypatch,
            *(self.note(name, fails) for name in ("connect", "initialize", "strategy")),
        )

    def cluster_spec(self):
        return tf.train.ClusterSpec({})

    def note(self, name, fails=None):
        def call(*args, **kwargs):
            self.calls.append((name, *args, kwargs) if name == "resolve" else (name,))
            if name == fails:
                raise RuntimeError("timed out\nand a stack trace\nof many lines")
            self.num_replicas_in_sync = 8
            return self

        return call


def replace_bring_up(monkeypatch, connect, initialize, strategy):
    """Puts functions of a resolver in place of what only a TPU can do."""
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", connect)
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", initialize)
    monkeypatch.setattr(tf.distribute, "TPUStrategy", strategy)


@pytest.mark.parametrize(
    "address, workers",
    [
        ("local", []),
        ("grpc://1.2.3.4:8470", ["1.2.3.4:8470"]),
        ("grpc://1.2.3.4:8470,grpc://1.2.3.5:8470", ["1.2.3.4:8470", "1.2.3.5:8470"]),
    ],
)
def test_bring_up_of_one_tpu_vm_and_of_a_slice(monkeypatch, address, workers):
    """With TensorFlow's own resolver: the cluster is connected first, and only where there is one.

    On one TPU VM the TPU is this process's own device; there is nothing to connect to.
    """
    calls, asked = [], []

    class Connection:
        def __init__(self, address, timeout):
            asked.append(f"{address[0]}:{address[1]}")

        def close(self):
            pass

    monkeypatch.setattr(socket, "create_connection", Connection)

    class Strategy:
        num_replicas_in_sync = 8

        def __init__(self, resolver):
            self.cluster_resolver = resolver
            calls.append(("strategy", resolver))

    replace_bring_up(
        monkeypatch,
        lambda resolver: calls.append(("connect", resolver)),
        lambda resolver: calls.append(("initialize", resolver)),
        Strategy,
    )
    strategy = strategies.make_strategy(tpu_name=address)
    names = ["connect"] * bool(workers) + ["initialize", "strategy"]
    assert [name for name, _ in calls] == names
    (resolver,) = {resolver for _, resolver in calls}
    assert resolver.cluster_spec().as_dict().get("worker", []) == workers
    assert sorted(asked) == workers
    assert strategies.describe(strategy) == "8 TPU cores"


def test_a_named_tpu_is_taken(monkeypatch):
    fake_tpu = FakeTPU(monkeypatch)
    strategy = strategies.make_strategy(tpu_name="mine", tpu_zone="z", gcp_project="p")
    assert strategy is fake_tpu
    assert fake_tpu.calls == [
        ("resolve", "mine", {"zone": "z", "project": "p"}),
        ("connect",),
        ("initialize",),
        ("strategy",),
    ]


@pytest.mark.parametrize(
    "settings, address",
    [
        (dict(master="grpc://1.2.3.4:8470"), "grpc://1.2.3.4:8470"),
        (dict(use_tpu=True), "local"),
        (dict(tpu_name="local"), "local"),
    ],
)
def test_address_of_the_tpu(monkeypatch, settings, address):
    fake_tpu = FakeTPU(monkeypatch)
    strategies.make_strategy(**settings)
    assert fake_tpu.calls[0][1] == address
    assert (("connect",) in fake_tpu.calls) == (address != "local")


def test_a_tpu_named_by_the_environment_or_attached_is_taken(monkeypatch):
    fake_tpu = FakeTPU(monkeypatch)
    monkeypatch.setattr(tpu, "is_attached", lambda: True)
    strategies.make_strategy()
    assert fake_tpu.calls[0][1] == "local"
    monkeypatch.setenv("TPU_NAME", "mine")
    fake_tpu.calls.clear()
    strategies.make_strategy()
    assert fake_tpu.calls[0][1] == "mine"


def test_use_tpu_false_leaves_a_tpu_alone(monkeypatch, gpus):
    fake_tpu = FakeTPU(monkeypatch)
    monkeypatch.setattr(tpu, "is_attached", lambda: True)
    strategies.make_strategy(use_tpu=False, tpu_name="mine")
    assert fake_tpu.calls == []


@pytest.mark.parametrize("call", ["resolve", "connect", "initialize"])
def test_a_tpu_that_does_not_answer_is_told_in_one_line(monkeypatch, call):
    FakeTPU(monkeypatch, fails=call)
    with pytest.raises(ConfigError) as error:
        strategies.make_strategy(use_tpu=True, tpu_name="mine")
    text = str(error.value)
    assert len(text.splitlines()) == 1
    for part in ("use_tpu", "'mine'", "timed out", "--tpu_name", "--use_tpu=False"):
        assert part in text


def refuse(monkeypatch):
    """Whoever asks TensorFlow to connect fails: it would wait for ever."""

    def connect(*_):
        raise AssertionError("TensorFlow was asked to connect")

    replace_bring_up(monkeypatch, connect, connect, connect)


def test_an_address_where_nobody_listens_is_told_in_one_line(monkeypatch, free_ports):
    """With TensorFlow's own resolver, and the one worker of two that does not answer is named."""
    refuse(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as server:
        (closed,) = free_ports(1)
        ports = server.getsockname()[1], closed
        address = ",".join(f"grpc://127.0.0.1:{port}" for port in ports)
        for flag in ("tpu_name", "master"):
            with pytest.raises(ConfigError) as error:
                strategies.make_strategy(use_tpu=True, **{flag: address})
            text = str(error.value)
            assert len(text.splitlines()) == 1
            assert f"(127.0.0.1:{closed}: Connection refused)" in text


def test_a_tpu_worker_that_does_not_answer_in_time_is_told_in_one_line(monkeypatch):
    refuse(monkeypatch)
    monkeypatch.setattr(tpu, "ANSWER_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        with pytest.raises(ConfigError, match=f"no TPU answers .*127.0.0.1:{port}: timed out"):
            strategies.make_strategy(tpu_name=f"grpc://127.0.0.1:{port}")
        for each in waiting:
            each.close()


@pytest.mark.parametrize("address", ["grpc://", "grpc://1.2.3.4:port", "grpc://1.2.3.4:99999"])
def test_an_address_that_is_none_is_told_in_one_line(monkeypatch, address):
    refuse(monkeypatch)
    with pytest.raises(ConfigError, match="use_tpu: no TPU answers at 'grpc://.*is not HOST:PORT"):
        strategies.make_strategy(tpu_name=address)


class Cluster:
    """Notes the resolver with which a cluster would be joined."""

    def __init__(self, monkeypatch):
        monkeypatch.setattr(
            tf.distribute,
            "MultiWorkerMirroredStrategy",
            lambda cluster_resolver: setattr(self, "resolver", cluster_resolver),
        )


def tf_config(monkeypatch, **task):
    cluster = {"chief": ["a:1"], "worker": ["b:2", "c:3"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))


def test_tf_config_describes_the_cluster(monkeypatch):
    cluster = Cluster(monkeypatch)
    tf_config(monkeypatch, type="worker", index=1)
    monkeypatch.setenv("SLURM_PROCID", "0")  # TF_CONFIG comes first
    strategies.make_strategy(strategy="multi_worker")
    resolver = cluster.resolver
    assert (resolver.task_type, resolver.task_id) == ("worker", 1)
    assert resolver.cluster_spec().as_dict() == {"chief": ["a:1"], "worker": ["b:2", "c:3"]}


def slurm(monkeypatch, rank: int, nodes="n[08-10]", tasks="2(x2),1", **more):
    named = dict(
        PROCID=str(rank), STEP_NUM_TASKS="5", STEP_NODELIST=nodes, STEP_TASKS_PER_NODE=tasks
    )
    for name, value in named.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    for name, value in more.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("visible_gpus", [None, "0", "0,1,2,3"])
def test_slurm_describes_the_cluster(monkeypatch, gpus, visible_gpus):
    cluster = Cluster(monkeypatch)
    if visible_gpus:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible_gpus)
        gpus(visible_gpus.count(",") + 1)
    slurm(monkeypatch, 3, SLURMD_NODENAME="n09")
    strategies.make_strategy(strategy="multi_worker")
    resolver = cluster.resolver
    assert (resolver.task_type, resolver.task_id) == ("worker", 3)
    ports = ["n08:8888", "n08:8889", "n09:8888", "n09:8889", "n10:8888"]
    assert resolver.cluster_spec().as_dict() == {"worker": ports}
    here = len(visible_gpus.split(",")) if visible_gpus else 0
    assert resolver.num_accelerators() == {"GPU": here}


@pytest.mark.parametrize(
    "prepare, words",
    [
        (lambda patch: None, ["TF_CONFIG", "srun"]),
        (lambda patch: patch.setenv("TF_CONFIG", "{'a': 1}"), ["TF_CONFIG cannot be read", "host"]),
        (lambda patch: patch.setenv("TF_CONFIG", "[1]"), ["TF_CONFIG", "srun"]),
        (lambda patch: tf_config(patch, type="evaluator", index=0), ["evaluator", "--mode=eval"]),
        (lambda patch: patch.setenv("SLURM_PROCID", "0"), ["SLURM_STEP_NUM_TASKS", "srun"]),
        (lambda patch: slurm(patch, 0, "n[9-11]", SLURMD_NODENAME="n9"), ["n10:8888", "on n9"]),
    ],
    ids=["nothing", "no JSON", "no cluster", "evaluator", "no srun", "order of hosts"],
)
def test_no_cluster_is_told_in_one_line(monkeypatch, prepare, words):
    prepare(monkeypatch)
    with pytest.raises(ConfigError) as error:
        strategies.make_strategy(strategy="multi_worker")
    assert len(str(error.value).splitlines()) == 1
    for word in words:
        assert word in str(error.value)
